//! Every link leads somewhere, and every page can be reached.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

use super::{page, pages, root};

/// A path without `..`.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => assert!(plain.pop(), "{} leaves the project", path.display()),
            Component::CurDir => {}
            part => plain.push(part),
        }
    }
    plain
}

#[test]
fn every_link_leads_to_a_file_and_a_heading() {
    let (mut files, mut headings) = (0, 0);
    for from in pages() {
        for link in from.links() {
            if link.starts_with("https://") {
                continue;
            }
            let at = from.path.display();
            let (file, anchor) = link.split_once('#').map_or((&*link, None), |(file, a)| (file, Some(a)));
            let target =
                if file.is_empty() { from.path.clone() } else { plain(&from.path.with_file_name(file)) };
            assert!(root().join(&target).exists(), "{at}: {link} leads nowhere");
            files += 1;
            if let Some(anchor) = anchor {
                let known = page(target.to_str().unwrap()).anchors();
                assert!(known.contains(anchor), "{at}: {link}: no such heading among {known:?}");
                headings += 1;
            }
        }
    }
    assert!(files > 60 && headings > 5, "only {files} links and {headings} of them to headings");
}

#[test]
fn no_page_has_two_headings_of_one_name() {
    for page in pages() {
        let headings = page.headings();
        assert_eq!(page.anchors().len(), headings.len(), "{}: {headings:?}", page.path.display());
        // Those of the contents are its parts.
        let titles = headings.iter().filter(|heading| heading.level == 1).count();
        assert!(titles == 1 || page.path.ends_with("SUMMARY.md"), "{}", page.path.display());
    }
}

#[test]
fn the_contents_list_every_page_once() {
    let contents = page("docs/SUMMARY.md").links();
    let listed: BTreeSet<PathBuf> = contents.iter().map(|link| Path::new("docs").join(link)).collect();
    assert_eq!(listed.len(), contents.len(), "a page is listed twice");
    let written: BTreeSet<PathBuf> = pages().into_iter().map(|page| page.path).collect();
    let beside = ["README.md", "charts/tenure/README.md", "docs/SUMMARY.md"].map(PathBuf::from);
    let missing: Vec<_> =
        written.iter().filter(|path| !listed.contains(*path) && !beside.contains(path)).collect();
    assert!(missing.is_empty(), "docs/SUMMARY.md does not list {missing:?}");
    assert!(listed.is_subset(&written), "docs/SUMMARY.md lists what is not there");
}
