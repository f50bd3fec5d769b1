//! The `tenure` program.
fn main() -> std::process::ExitCode {
    for (_, t) in tenure::crd::manifests().unwrap_or_default() { print!("---\n{t}"); }
    std::process::ExitCode::SUCCESS
}
