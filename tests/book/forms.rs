//! What the forms for issues ask users to run.

use std::io::Write as _;
use std::process::{Command, Stdio};

use tenure_kit::program::root;

#[test]
fn the_form_for_bugs_shows_how_to_redact_a_log() {
    let form = std::fs::read_to_string(root().join(".github/ISSUE_TEMPLATE/bug.yaml")).unwrap();
    let (_, function) = form.split_once("        redact() {\n").unwrap();
    let (body, _) = function.split_once("\n        }\n").unwrap();
    let mut shell = Command::new("bash")
        .args(["-euc", &format!("redact() {{\n{body}\n}}\nredact")])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let line = r#"{"timestamp":"2027-01-04T12:30:00Z","url":"https://x2.example.net:8443/api2/tokens","message":"10.20.0.11 and [2001:db8::7]:443 refuse eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhZG1pbiJ9.c2lnbmF0dXJl"}"#;
    shell.stdin.take().unwrap().write_all(line.as_bytes()).unwrap();
    let redacted = String::from_utf8(shell.wait_with_output().unwrap().stdout).unwrap();
    let expected = r#"{"timestamp":"2027-01-04T12:30:00Z","url":"https://HOST/api2/tokens","message":"IP and [IP]:443 refuse TOKEN"}"#;
    assert_eq!(redacted, expected);
}
