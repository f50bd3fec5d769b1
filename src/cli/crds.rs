//! `tenure crds`

use std::io::Write as _;
use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;

/// Options of `tenure crds`.
#[derive(Debug, Args)]
pub(super) struct Options {
    /// Folder to write the files to, instead of printing them.
    #[arg(long, value_name = "DIR")]
    output: Option<PathBuf>,
}

pub(super) fn crds(options: &Options) -> anyhow::Result<()> {
    let manifests = crate::crd::manifests().context("the CRDs cannot be written as YAML")?;
    match &options.output {
        Some(folder) => {
            for (name, text) in manifests {
                let path = folder.join(name);
                std::fs::write(&path, text)
                    .with_context(|| format!("{} cannot be written", path.display()))?;
            }
        }
        None => {
            let mut out = std::io::stdout().lock();
            for (_, text) in manifests {
                write!(out, "---\n{text}")?;
            }
        }
    }
    Ok(())
}
