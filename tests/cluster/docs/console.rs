//! Blocks that show what a terminal shows: commands, and what comes out.

/// A command and the output that a page shows for it.
#[derive(Debug, PartialEq, Eq)]
pub struct Step {
    pub command: String,
    pub output: String,
}

pub fn steps(block: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    for line in block.lines() {
        match (line.strip_prefix("$ "), steps.last_mut()) {
            (Some(command), _) => steps.push(Step { command: command.to_owned(), output: String::new() }),
            (None, Some(step)) if step.output.is_empty() && step.command.ends_with('\\') => {
                step.command.push('\n');
                step.command.push_str(line);
            }
            (None, Some(step)) => {
                step.output.push_str(line);
                step.output.push('\n');
            }
            (None, None) => panic!("{line} comes before any command"),
        }
    }
    steps
}

/// Where what came out is not what a page shows. Ages may differ, and so may the width of columns; a page that shows nothing
/// promises nothing.
pub fn difference(shown: &str, found: &str) -> Option<String> {
    let lines = |text: &str| -> Vec<Vec<String>> {
        let lines = text.lines().map(|line| line.split_whitespace().map(stable).collect::<Vec<_>>());
        lines.filter(|line| !line.is_empty()).collect()
    };
    let differs = !shown.is_empty() && lines(shown) != lines(found);
    differs.then(|| format!("shown:\n{shown}\nfound:\n{found}"))
}

/// A word, or what stands for an age such as `9s` or `2m30s`.
fn stable(word: &str) -> String {
    let is_age = word.starts_with(|c: char| c.is_ascii_digit())
        && word.ends_with(['s', 'm', 'h', 'd'])
        && word.chars().all(|c| c.is_ascii_digit() || "smhd".contains(c));
    if is_age { "AGE".to_owned() } else { word.to_owned() }
}

#[test]
fn commands_and_their_output_are_told_apart() {
    let step = |command: &str, output: &str| Step { command: command.to_owned(), output: output.to_owned() };
    let block = "$ a \\\n  b\nc\n\nd\n$ e\n";
    assert_eq!(steps(block), [step("a \\\n  b", "c\n\nd\n"), step("e", "")]);
}

#[test]
fn only_what_may_differ_may_differ() {
    for (shown, found, same) in [
        ("A  B\nx  9s\n", "A B\n\nx 1m2s\n", true),
        ("", "x\n", true),
        ("x 9\n", "x 8\n", false),
        ("x\n", "x\ny\n", false),
        ("x\ny\n", "x\n", false),
        ("x True\n", "x False\n", false),
    ] {
        assert_eq!(difference(shown, found).is_none(), same, "{shown} {found}");
    }
}
