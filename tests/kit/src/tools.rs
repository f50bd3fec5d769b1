//! Programs that tests need besides the control plane's own: built once by Go at fixed versions, from their own modules, and
//! then kept below `target/tools/`.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, anyhow, bail};
use serde_json::Value;

use crate::control_plane::{cache, say};

/// Helm 3.
///
/// # Errors
/// When Go is missing or its build fails.
pub fn helm3() -> Result<PathBuf> {
    // What its releases are told of the Kubernetes that they were built with; without it, it takes every cluster for 1.20.
    const KUBERNETES: &str = "-X helm.sh/helm/v3/pkg/chartutil.k8sVersionMajor=1 \
                              -X helm.sh/helm/v3/pkg/chartutil.k8sVersionMinor=37";
    install("helm.sh/helm/v3/cmd/helm", "v3.22.0", KUBERNETES)
}

/// Helm 4.
///
/// # Errors
/// When Go is missing or its build fails.
pub fn helm4() -> Result<PathBuf> {
    install("helm.sh/helm/v4/cmd/helm", "v4.3.1", "")
}

/// kubeconform.
///
/// # Errors
/// When Go is missing or its build fails.
pub fn kubeconform() -> Result<PathBuf> {
    install("github.com/yannh/kubeconform/cmd/kubeconform", "v0.8.0", "")
}

/// kube-state-metrics.
///
/// # Errors
/// When Go is missing or its build fails.
pub fn kube_state_metrics() -> Result<PathBuf> {
    install("k8s.io/kube-state-metrics/v2", "v2.18.0", "")
}

/// The folder with the CRDs of the Prometheus operator, out of its module.
///
/// # Errors
/// When Go is missing or cannot get it.
pub fn prometheus_operator_crds() -> Result<PathBuf> {
    let module = "github.com/prometheus-operator/prometheus-operator@v0.85.0";
    let output = go(&folder("modules")?)?.args(["mod", "download", "-json", module]).output();
    let output = output.context("starting go mod download")?;
    let answer: Value = serde_json::from_slice(&output.stdout).with_context(|| {
        format!("`go mod download {module}`: {}", String::from_utf8_lossy(&output.stderr).trim())
    })?;
    let folder = answer.get("Dir").and_then(Value::as_str);
    let folder = folder.ok_or_else(|| anyhow!("`go mod download {module}` answered {answer}"))?;
    Ok(Path::new(folder).join("example/prometheus-operator-crd"))
}

/// A program of a module, built if need be.
fn install(package: &str, version: &str, linker_flags: &str) -> Result<PathBuf> {
    let name = package.trim_end_matches("/v2").rsplit('/').next().unwrap_or(package);
    let folder = folder(&format!("{}@{version}", package.replace('/', "_")))?;
    let program = folder.join(name);
    if program.is_file() {
        return Ok(program);
    }
    let lock = File::create(folder.join("lock")).context("the lock of the Go build")?;
    lock.lock().context("waiting for the Go build of another process")?;
    if !program.is_file() {
        // Elsewhere first: a build that is interrupted must not look like a program.
        let partial = folder.join("partial");
        build(package, version, linker_flags, &partial)?;
        fs::rename(partial.join(name), &program)
            .with_context(|| format!("putting {} in place", program.display()))?;
    }
    Ok(program)
}

/// In a module that requires the program's: for `go install`, the proxy would have to list all versions, too.
fn build(package: &str, version: &str, linker_flags: &str, output: &Path) -> Result<()> {
    say(&format!("building {package}@{version} by Go (one or two minutes, once) …"));
    fs::create_dir_all(output).with_context(|| format!("making {}", output.display()))?;
    let module = package.split("/cmd/").next().unwrap_or(package);
    let manifest = format!("module tools\n\ngo 1.26.0\n\nrequire {module} {version}\n");
    fs::write(output.join("go.mod"), manifest).context("writing go.mod")?;
    let mut build = go(output)?;
    build.args(["build", "-mod=mod", "-buildvcs=false", "-ldflags", &format!("-s -w {linker_flags}")]);
    build.args(["-o", "./", package]).env("CGO_ENABLED", "0").stdout(Stdio::null());
    let output = build.output().context("starting go build")?;
    if !output.status.success() {
        bail!("`go build {package}` failed:\n{}", String::from_utf8_lossy(&output.stderr).trim());
    }
    say(&format!("built {package}"));
    Ok(())
}

/// Go, away from any module of ours.
fn go(folder: &Path) -> Result<Command> {
    if let Err(error) = Command::new("go").arg("version").current_dir(folder).output() {
        bail!("`go` does not start ({error}). Install Go 1.26 or newer (https://go.dev/dl).");
    }
    let mut go = Command::new("go");
    go.current_dir(folder).stdin(Stdio::null());
    Ok(go)
}

fn folder(name: &str) -> Result<PathBuf> {
    let folder = cache()?.with_file_name("tools").join(name);
    fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
    Ok(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Also what `.ci/run` builds them by, before tests that need them share the machine with the compiler.
    #[test]
    fn the_programs_are_those_of_the_fixed_versions() {
        let output = |program: PathBuf, argument: &str| {
            let output = Command::new(program).arg(argument).output().unwrap();
            String::from_utf8(output.stdout).unwrap()
        };
        assert!(output(helm3().unwrap(), "version").contains("v3.22"));
        assert!(output(helm4().unwrap(), "version").contains("v4.3"));
        assert!(output(kubeconform().unwrap(), "-h").contains("-schema-location"));
        assert!(
            prometheus_operator_crds().unwrap().join("monitoring.coreos.com_prometheusrules.yaml").is_file()
        );
    }
}
