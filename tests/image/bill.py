"""What the bill of materials says is what is in the program. `.ci/image` and `.ci/bill` come first."""

import json
import unittest

import oci
from test_layout import crates, on_each_platform


class Bill(unittest.TestCase):
    @on_each_platform
    def test_names_the_crates_of_the_program_and_tells_no_path(self, image, folder):
        text = (oci.FOLDER / f"{image.platform['architecture']}.cdx.json").read_text()
        bill = json.loads(text)
        self.assertEqual(bill["bomFormat"], "CycloneDX")
        listed = [bill["metadata"]["component"], *bill["components"]]
        self.assertEqual({(part["name"], part["version"]) for part in listed}, crates(folder / "tenure"))
        for part in listed:
            self.assertTrue(part["purl"].startswith(f"pkg:cargo/{part['name']}@{part['version']}"), part)
        self.assertNotIn(str(oci.REPOSITORY), text)


if __name__ == "__main__":
    unittest.main()
