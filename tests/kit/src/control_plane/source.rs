//! Where a control plane comes from.

use std::path::PathBuf;

use anyhow::{Result, bail};

use super::build;

const KUBECONFIG: &str = "TENURE_KUBECONFIG";
const ASSETS: &str = "KUBEBUILDER_ASSETS";

/// A cluster, or what to start to have one.
pub(super) enum Source {
    Given(PathBuf),
    Program(Program),
}

/// What is started.
#[derive(Clone, Debug)]
pub(super) enum Program {
    /// `tests/control-plane`, built.
    Own(PathBuf),
    /// A folder with `kube-apiserver` and `etcd`.
    Assets(PathBuf),
}

impl Source {
    pub(super) fn find(kubeconfig: Option<PathBuf>) -> Result<Self> {
        if let Some(kubeconfig) = kubeconfig.or_else(|| path_setting(KUBECONFIG)) {
            if !kubeconfig.is_file() {
                bail!("there is no kubeconfig {}", kubeconfig.display());
            }
            return Ok(Self::Given(kubeconfig));
        }
        if let Some(folder) = path_setting(ASSETS) {
            for name in ["kube-apiserver", "etcd"] {
                if !folder.join(name).is_file() {
                    bail!("{ASSETS}: there is no {name} in {}", folder.display());
                }
            }
            return Ok(Self::Program(Program::Assets(folder)));
        }
        build::control_plane().map(Program::Own).map(Self::Program)
    }
}

/// A path from the environment: test functions have no command line of their own.
#[expect(clippy::disallowed_methods, reason = "a test has no command line through which clap could read it")]
pub(crate) fn path_setting(name: &str) -> Option<PathBuf> {
    std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}
