//! The picture of the demo's tour fits the first screen of the README, and shows what its page shows.

use std::collections::BTreeSet;

use tenure_kit::program::root;

use super::page;

fn picture() -> String {
    std::fs::read_to_string(root().join("docs/tour.svg")).unwrap()
}

/// What is between two texts, each time.
fn between<'a>(text: &'a str, start: &str, end: &str) -> Vec<&'a str> {
    text.split(start).skip(1).map(|rest| rest.split(end).next().unwrap()).collect()
}

#[test]
fn the_picture_of_the_tour_fits_a_screen_and_loops() {
    let picture = picture();
    let number = |text: &str| text.parse::<f64>().unwrap();
    let size = |name: &str| number(between(&picture, &format!(" {name}=\""), "\"")[0]);
    assert!(size("width") <= 900.0 && size("height") <= 420.0, "{} x {}", size("width"), size("height"));
    let moves = between(&picture, "{animation:", "}");
    assert_eq!(moves.len(), 2, "{moves:?}");
    for words in moves.iter().map(|moves| moves.split(' ').collect::<Vec<_>>()) {
        assert!(number(words[1].strip_suffix('s').unwrap()) <= 25.0 && words[3] == "infinite", "{words:?}");
    }
}

#[test]
fn the_picture_and_the_page_of_the_tour_are_of_one_run() {
    let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    let blocks = page("docs/tour.md").blocks();
    let printed: BTreeSet<String> = blocks[0].text.lines().map(words).collect();
    let picture = picture();
    let shown = between(&picture, "<text y=", "</text>");
    assert!(shown.len() > 20, "{shown:?}");
    for line in shown {
        let parts = between(line, "<tspan ", "</tspan>");
        let parts: Vec<&str> = parts.iter().map(|part| part.split_once('>').unwrap().1).collect();
        let line = words(&parts.join(" ")).replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&");
        assert!(printed.contains(&line), "docs/tour.md does not have the line {line:?} of docs/tour.svg");
    }
}
