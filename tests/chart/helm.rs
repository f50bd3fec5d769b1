//! Helm, in both versions, and what it renders.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::LazyLock;

use serde_json::Value;
pub use tenure_kit::program::{program, root};
use tenure_kit::tools;

/// The namespace that is rendered for. The release is called `tenure`, and so is everything in it.
pub const NAMESPACE: &str = "tenure-system";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Helm {
    Three,
    Four,
}

impl Helm {
    pub const BOTH: [Self; 2] = [Self::Three, Self::Four];

    /// Runs it; what it prints, or why it refuses. A dash among the arguments is these values.
    pub fn run(self, arguments: &[&str], values: &Value) -> Result<String, String> {
        static HOME: LazyLock<PathBuf> = LazyLock::new(|| temporary("helm-home"));
        let program = match self {
            Self::Three => tools::helm3(),
            Self::Four => tools::helm4(),
        };
        let mut helm = Command::new(program.unwrap());
        helm.args(arguments).env_clear().env("HOME", &*HOME);
        helm.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut helm = helm.spawn().unwrap();
        // It may refuse its arguments without reading any values.
        let _ = helm.stdin.take().unwrap().write_all(values.to_string().as_bytes());
        let output = helm.wait_with_output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) }
    }

    /// What the chart renders, hooks included, as text.
    pub fn template(self, values: &Value) -> Result<String, String> {
        self.template_as("tenure", NAMESPACE, values)
    }

    /// The same for a release of another name and place.
    pub fn template_as(self, release: &str, namespace: &str, values: &Value) -> Result<String, String> {
        let (chart, image) = (chart(), image());
        let values_of = ["--values", path(&image), "--values", "-"];
        let arguments = ["template", release, path(&chart), "--namespace", namespace];
        self.run(&[&arguments[..], &values_of].concat(), values)
    }

    /// What the chart renders, hooks included.
    pub fn render(self, values: &Value) -> Vec<Value> {
        objects(&self.template(values).unwrap_or_else(|refusal| panic!("{self:?} {values}: {refusal}")))
    }

    /// Why it refuses values.
    pub fn refusal(self, values: &Value) -> String {
        let refusal = self.template(values).map(drop);
        refusal.expect_err(&format!("{self:?} takes {values}"))
    }

    /// The chart as a user gets it.
    pub fn package(self) -> PathBuf {
        let folder = temporary(&format!("package-{self:?}"));
        self.run(&["package", path(&chart()), "--destination", path(&folder)], &Value::Null).unwrap();
        let mut files = fs::read_dir(&folder).unwrap();
        files.next().unwrap().unwrap().path()
    }
}

/// The documents of a text.
pub fn objects(text: &str) -> Vec<Value> {
    let documents: Vec<Value> = serde_saphyr::from_multiple(text).unwrap();
    documents.into_iter().filter(|document| !document.is_null()).collect()
}

/// One of what was rendered.
pub fn find<'a>(objects: &'a [Value], kind: &str, name: &str) -> Option<&'a Value> {
    let mut found = objects.iter().filter(|o| o["kind"] == kind && o["metadata"]["name"] == name);
    let first = found.next();
    assert!(found.next().is_none(), "{kind} {name} is there twice");
    first
}

/// The kinds and names of what was rendered, without the CRDs.
pub fn names(objects: &[Value]) -> Vec<String> {
    let objects = objects.iter().filter(|object| object["kind"] != "CustomResourceDefinition");
    let mut names: Vec<String> =
        objects.map(|o| format!("{}/{}", text(&o["kind"]), text(&o["metadata"]["name"]))).collect();
    names.sort();
    names
}

pub fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text"))
}

pub fn chart() -> PathBuf {
    root().join("charts/tenure")
}

/// Values that name an image, without which the chart renders nothing. A test's own values go on top.
pub fn image() -> PathBuf {
    root().join("tests/chart/fixtures/image.yaml")
}

pub fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// An empty folder of this test run.
pub fn temporary(name: &str) -> PathBuf {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("chart/{name}-{number}"));
    match fs::remove_dir_all(&folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => panic!("{}: {error}", folder.display()),
        _ => {}
    }
    fs::create_dir_all(&folder).unwrap();
    folder
}
