//! Building Go programs of `tests/control-plane`, once.

use std::{
    fs::{self, File},
    io::{self, BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, anyhow, bail};
use ring::digest::{Context as Digest, SHA256};

use super::source::path_setting;

const KIT: &str = env!("CARGO_MANIFEST_DIR");
/// A cold build of the control plane compiles about 1,600 packages.
const PACKAGES_PER_LINE: usize = 250;
const LINES_OF_AN_ERROR: usize = 30;

/// The control plane's program, built if need be.
pub(super) fn control_plane() -> Result<PathBuf> {
    program("control-plane", ".")
}

/// The `kubectl` of the control plane's Kubernetes version, built if need be.
///
/// # Errors
/// When Go is missing or its build fails.
pub fn kubectl() -> Result<PathBuf> {
    program("kubectl", "k8s.io/kubernetes/cmd/kubectl")
}

fn program(name: &str, package: &str) -> Result<PathBuf> {
    let module = Module::read()?;
    let folder = module.cache.join(&module.fingerprint);
    let program = folder.join(name);
    if program.is_file() {
        return Ok(program);
    }
    fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
    let lock = File::create(folder.join("lock")).context("the lock of the Go build")?;
    lock.lock().context("waiting for the Go build of another process")?;
    if !program.is_file() {
        // Under another name first: a build that is interrupted must not look like a program.
        let partial = folder.join(format!("{name}.partial"));
        module.build(name, package, &partial)?;
        fs::rename(&partial, &program).with_context(|| format!("putting {} in place", program.display()))?;
    }
    Ok(program)
}

/// The folder of what is kept from one test run to the next.
pub(crate) fn cache() -> Result<PathBuf> {
    let workspace =
        Path::new(KIT).ancestors().nth(2).ok_or_else(|| anyhow!("the kit is not in tests/kit"))?;
    let target = path_setting("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into());
    Ok(workspace.join(target).join("control-plane"))
}

/// The Go module in `tests/control-plane`.
struct Module {
    folder: PathBuf,
    cache: PathBuf,
    kubernetes: String,
    fingerprint: String,
}

impl Module {
    fn read() -> Result<Self> {
        let folder = Path::new(KIT).with_file_name("control-plane");
        let manifest =
            fs::read_to_string(folder.join("go.mod")).context("reading tests/control-plane/go.mod")?;
        let go = go_version(&folder, &manifest)?;
        Ok(Self {
            cache: cache()?,
            kubernetes: word_after(&manifest, "k8s.io/kubernetes")?.to_owned(),
            fingerprint: fingerprint(&folder, &go)?,
            folder,
        })
    }

    fn build(&self, name: &str, package: &str, output: &Path) -> Result<()> {
        say(&format!("building {name} {} by Go (about five minutes, once) …", self.kubernetes));
        let mut build = Command::new("go");
        build.arg("build").args(["-v", "-buildvcs=false", "-ldflags", &self.linker_flags()?, "-o"]);
        build.arg(output).arg(package).current_dir(&self.folder);
        // One C compiler less to install, and the program runs on any Linux.
        build.env("CGO_ENABLED", "0").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut build = build.spawn().context("starting go build")?;
        let lines = build.stderr.take().map(follow).unwrap_or_default();
        if !build.wait().context("waiting for Go")?.success() {
            bail!("`go build {package}` failed in {}:\n{}", self.folder.display(), lines.join("\n"));
        }
        say(&format!("built {name}"));
        Ok(())
    }

    /// The version that the API server reports: a module's build knows it, but Kubernetes asks the linker.
    fn linker_flags(&self) -> Result<String> {
        const VERSION: &str = "k8s.io/component-base/version";
        let mut numbers = self.kubernetes.trim_start_matches('v').split('.');
        let (Some(major), Some(minor)) = (numbers.next(), numbers.next()) else {
            bail!("go.mod names no version of Kubernetes: {}", self.kubernetes);
        };
        let kubernetes = &self.kubernetes;
        Ok(format!(
            "-s -w -X {VERSION}.gitVersion={kubernetes} -X {VERSION}.gitMajor={major} -X {VERSION}.gitMinor={minor} \
             -X {VERSION}.gitTreeState=clean"
        ))
    }
}

/// Counts the packages that `go build -v` names, and keeps the last lines in case they are an error.
fn follow(stderr: impl io::Read) -> Vec<String> {
    let mut last = Vec::new();
    for (number, line) in (1..).zip(BufReader::new(stderr).lines().map_while(Result::ok)) {
        if number % PACKAGES_PER_LINE == 0 {
            say(&format!("  … {number} packages"));
        }
        if last.len() == LINES_OF_AN_ERROR {
            last.remove(0);
        }
        last.push(line);
    }
    last
}

fn fingerprint(folder: &Path, go: &str) -> Result<String> {
    let mut files: Vec<PathBuf> =
        fs::read_dir(folder)?.map(|entry| entry.map(|entry| entry.path())).collect::<io::Result<_>>()?;
    files.retain(|file| {
        let name = file.file_name().unwrap_or_default();
        name == "go.mod" || name == "go.sum" || file.extension().is_some_and(|extension| extension == "go")
    });
    files.sort();
    let mut digest = Digest::new(&SHA256);
    digest.update(go.as_bytes());
    for file in files {
        let content = fs::read(&file).with_context(|| format!("reading {}", file.display()))?;
        digest.update(file.file_name().unwrap_or_default().as_encoded_bytes());
        digest.update(&content.len().to_be_bytes());
        digest.update(&content);
    }
    let bytes = digest.finish();
    let (short, _) = bytes.as_ref().split_first_chunk().ok_or_else(|| anyhow!("SHA-256 has 32 bytes"))?;
    Ok(format!("{:016x}", u64::from_be_bytes(*short)))
}

/// Go's version, asked in the module's folder: Go may exchange itself for the one that `go.mod` wants.
fn go_version(folder: &Path, manifest: &str) -> Result<String> {
    let needed = word_after(manifest, "go")?;
    let asked = Command::new("go").args(["env", "GOVERSION"]).current_dir(folder).output();
    let asked =
        asked.map_err(|error| anyhow!("`go` does not start ({error}). {}", what_to_install(needed)))?;
    let version = String::from_utf8_lossy(&asked.stdout).trim().to_owned();
    if !asked.status.success() {
        bail!("`go` fails: {} {}", String::from_utf8_lossy(&asked.stderr).trim(), what_to_install(needed));
    }
    if numbers(version.trim_start_matches("go")) < numbers(needed) {
        bail!("{version} is too old. {}", what_to_install(needed));
    }
    Ok(version)
}

fn what_to_install(go: &str) -> String {
    format!(
        "A Kubernetes API server is needed. Besides Rust, install Go {go} or newer (https://go.dev/dl): it is built \
         from tests/control-plane, once. Or set TENURE_KUBECONFIG to the kubeconfig of a cluster (`cargo demo` has \
         --kubeconfig FILE), or KUBEBUILDER_ASSETS to a folder with kube-apiserver and etcd."
    )
}

fn numbers(version: &str) -> Vec<u32> {
    version.split('.').map_while(|number| number.parse().ok()).collect()
}

fn word_after<'a>(manifest: &'a str, first: &str) -> Result<&'a str> {
    let mut lines = manifest.lines().map(str::split_whitespace);
    lines
        .find_map(|mut words| if words.next() == Some(first) { words.next() } else { None })
        .ok_or_else(|| anyhow!("tests/control-plane/go.mod has no line {first:?}"))
}

/// Prints a line past the test harness, which would keep what is printed until a test has failed.
pub fn say(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_compare_as_numbers() {
        assert!(numbers("1.9.3") < numbers("1.26.0"));
        assert!(numbers("1.26.0") <= numbers("1.26.8"));
        assert!(numbers("1.27rc1") < numbers("1.26.0"), "a release candidate is nobody's toolchain");
    }

    #[test]
    fn a_manifest_is_read_by_its_first_words() {
        let manifest = "module x\n\ngo 1.26.0\n\nrequire (\n\tk8s.io/kubernetes v1.36.3\n)\n";
        assert_eq!(word_after(manifest, "go").unwrap(), "1.26.0");
        assert_eq!(word_after(manifest, "k8s.io/kubernetes").unwrap(), "v1.36.3");
        assert!(word_after(manifest, "toolchain").is_err());
    }
}
