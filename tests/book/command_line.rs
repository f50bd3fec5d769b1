//! The page of the command line is what the program says of itself.

use std::fmt::Write as _;
use std::process::Command;

use tenure_kit::program::program;

use super::{hold, page};

const PAGE: &str = "docs/reference/command-line.md";
/// Above it a person writes, below it the program.
const MARK: &str = "<!-- below: made of what `--help` prints -->\n";

pub fn help(arguments: &[&str]) -> String {
    let mut command = Command::new(program());
    // It shows the environment's values beside the variables.
    let output = command.args(arguments).arg("--help").env_clear().output().unwrap();
    assert!(output.status.success(), "{arguments:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(str::trim_end).fold(String::new(), |all, line| all + line + "\n")
}

fn verbs() -> Vec<String> {
    let help = help(&[]);
    let list = help.split("Commands:\n").nth(1).unwrap().split("\n\n").next().unwrap();
    let verbs = list.lines().filter_map(|line| line.strip_prefix("  ")?.split(' ').next());
    verbs.filter(|verb| !verb.is_empty()).map(str::to_owned).collect()
}

#[test]
fn the_command_line_is_told_as_the_program_tells_it() {
    let text = page(PAGE).text;
    let (above, _) = text.split_once(MARK).unwrap();
    let mut wanted = format!("{above}{MARK}");
    let verbs = verbs();
    assert!(verbs.iter().any(|verb| verb == "run"), "{verbs:?}");
    for verb in verbs {
        write!(wanted, "\n## tenure {verb}\n\n```text\n{}```\n", help(&[&verb])).unwrap();
    }
    hold(PAGE, &wanted);
}
