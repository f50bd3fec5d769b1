//! The table of threats names tests that exist.

use tenure_kit::program::root;

use super::page;

const PAGE: &str = "docs/security.md";

#[test]
fn every_test_that_the_threat_model_names_exists() {
    let text = page(PAGE).text;
    let table = text.split_once("## Threat model\n").unwrap().1.split_once("\n## ").unwrap().0;
    let mut names = 0;
    for row in table.lines().filter(|line| line.starts_with("| ")).skip(1) {
        let cells: Vec<&str> = row.trim_matches('|').split(" | ").collect();
        assert_eq!(cells.len(), 5, "{row}");
        // Files, each followed by what to search for in it.
        let (mut content, mut is_named) = (String::new(), true);
        for word in cells[4].split('`').skip(1).step_by(2) {
            let file =
                if word.starts_with("src/") { root().join(word) } else { root().join("tests").join(word) };
            if file.extension().is_some_and(|extension| extension == "rs") {
                assert!(is_named, "a file without the name of a test: {row}");
                content = std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{word}: {error}"));
                is_named = false;
            } else {
                assert!(content.contains(word), "{word} is not in the file before it: {row}");
                is_named = true;
                names += 1;
            }
        }
        assert!(is_named, "a file without the name of a test: {row}");
    }
    assert!(names >= 20, "{names}");
}
