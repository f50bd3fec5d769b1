//! No password and no token is written to the API server.

use super::Violation;
use crate::api::{Kind, Write};

/// How each token begins.
const TOKEN: &str = "eyJ";

/// Looks through what was logged.
pub fn check_log(planted: &[String], lines: &[String]) -> Result<(), Violation> {
    for line in lines {
        if line.contains(TOKEN) || planted.iter().any(|password| line.contains(password.as_str())) {
            return Err(Violation::new("no secret leaks", "a line of the log holds a password or a token"));
        }
        if line.contains("this is a bug") {
            return Err(Violation::new("nothing panics", line.clone()));
        }
    }
    Ok(())
}

pub fn check(planted: &[String], writes: &[Write]) -> Result<(), Violation> {
    for write in writes.iter().filter(|write| write.target.kind != Kind::Secret) {
        let Some(after) = &write.after else { continue };
        let json = after.json();
        let text = std::str::from_utf8(&json).expect("JSON is text");
        if text.contains(TOKEN) || planted.iter().any(|password| text.contains(password.as_str())) {
            let what = format!("{:?} {:?} holds a password or a token", write.target.kind, write.key);
            return Err(Violation::new("no secret leaks", what));
        }
    }
    Ok(())
}
