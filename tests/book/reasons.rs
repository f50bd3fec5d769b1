//! The page about what goes wrong explains every reason, under the heading that its standing calls for.

use tenure::engine::reason::{Kstatus, Reason};

use super::page;

fn part(kstatus: Kstatus) -> &'static str {
    match kstatus {
        Kstatus::Current => "Ready",
        Kstatus::InProgress => "Not ready, in progress",
        Kstatus::Failed => "Not ready, action required",
    }
}

#[test]
fn every_reason_is_explained_where_it_belongs() {
    let page = page("docs/troubleshooting.md");
    let mut below = String::new();
    let mut explained: Vec<(String, String)> = Vec::new();
    for heading in page.headings() {
        match heading.level {
            2 => below = heading.title,
            3 => explained.push((below.clone(), heading.title)),
            _ => {}
        }
    }
    explained.retain(|(part, _)| part.contains("eady"));
    let wanted = Reason::ALL
        .iter()
        .map(|&reason| (part(reason.kstatus()).to_owned(), reason.as_str().to_owned()))
        .collect::<Vec<_>>();
    for entry in &wanted {
        assert!(explained.contains(entry), "{entry:?} is not explained");
    }
    for entry in &explained {
        assert!(wanted.contains(entry), "{entry:?} is no reason");
    }
    assert_eq!(explained.len(), wanted.len(), "a reason is explained twice");
}

/// Nobody is helped by a meaning without a remedy.
#[test]
fn whoever_has_to_act_is_told_what_to_do() {
    let page = page("docs/troubleshooting.md");
    for reason in Reason::ALL.iter().copied().filter(|reason| !reason.is_ready()) {
        let word = reason.as_str();
        let text = page.text.split(&format!("### {word}\n")).nth(1).unwrap_or_default();
        let text = text.split("\n#").next().unwrap_or_default();
        assert!(text.contains("**Do:**") && text.len() > 120, "{word}: {text}");
    }
}
