//! What a page's commands find: a folder with the project's manifests, kubectl, a namespace, an operator at work, and
//! simulated systems.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tenure_kit::book::{Block, Page};
use tenure_kit::kona::{KonaOptions, KonaServer};
use tenure_kit::operator::Operator;
use tenure_kit::x2::X2Fleet;
use tokio::process::{Child, Command};

use super::super::fixture::*;
use super::super::playground::Playground;
use super::stand_in::{StandIns, filled_in};

/// A page's longest command is a rollout with three gateways.
const PATIENCE: Duration = Duration::from_mins(3);
/// What a page with the set-up `helm` begins with.
const INSTALL: &str = "helm install tenure charts/tenure --namespace tenure-system --create-namespace \
                       --set image.repository=registry.example/tenure";
/// More appliances than a page names.
const APPLIANCES: usize = 24;

pub struct World {
    fixture: Fixture,
    folder: PathBuf,
    stand_ins: StandIns,
    // Held, since they end with their handles.
    _systems: (X2Fleet, KonaServer),
    playground: Option<Child>,
}

/// The file that a block is, where its first line names one.
pub fn file_name(block: &Block) -> Option<&str> {
    let name = block.text.lines().next()?.strip_prefix("# ")?;
    let is_file = matches!(block.info.first()?.as_str(), "yaml" | "csv") && !name.contains([' ', '/']);
    (is_file && name.contains('.')).then_some(name)
}

/// Whether a page takes a release of the chart for granted, or makes one.
fn is_by_helm(page: &Page) -> bool {
    let installs = |block: &Block| super::is_run(block) && block.text.contains("helm install");
    page.remark("set-up").iter().any(|word| word == "helm") || page.blocks().iter().any(installs)
}

fn manifests(folder: &str) -> Vec<(String, String)> {
    let files = std::fs::read_dir(root().join(folder)).unwrap().map(|entry| entry.unwrap().path());
    let files = files.filter(|file| file.extension().is_some_and(|e| e == "yaml"));
    let name = |file: &Path| format!("{folder}/{}", file.file_name().unwrap().to_str().unwrap());
    files.map(|file| (name(&file), std::fs::read_to_string(&file).unwrap())).collect()
}

/// The ids of the customers that a text declares.
fn customers(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter_map(|line| line.trim().strip_prefix("customerId: ")?.split_whitespace().next())
}

impl World {
    pub async fn new(page: &Page) -> Self {
        let stem = page.path.file_stem().unwrap().to_str().unwrap().to_lowercase();
        let (name, by_helm) = (format!("page-{stem}"), is_by_helm(page));
        // The CRDs belong to the release, so that it must not share them with other pages.
        let fixture = if by_helm { Fixture::bare(&name).await } else { Fixture::new(&name).await };
        let (fleet, kona) = (fleet(APPLIANCES), KonaServer::start(KonaOptions::default()).unwrap());
        let examples = manifests("examples");
        let texts = examples.iter().fold(page.text.clone(), |all, (_, text)| all + "\n" + text);
        for id in customers(&texts) {
            kona.add_customer(id, "A customer");
        }
        let mut stand_ins = StandIns::new(&texts, &fleet, &kona);
        let given = page.remark("set-up");
        let given = given.iter().filter_map(|word| word.split_once('='));
        // The first of a name counts.
        for (text, stands_in) in given.chain([("NAMESPACE", fixture.ns.name())]) {
            stand_ins.add(text, stands_in);
        }
        if page.remark("set-up").iter().any(|word| word == "helm") {
            stand_ins.add("helm install tenure ", "helm upgrade --install tenure ");
        }
        let folder = fixture.plane.folder().join(fixture.ns.name());
        let systems = (fleet.clone(), kona.clone());
        let mut world = Self { fixture, folder, stand_ins, _systems: systems, playground: None };
        world.furnish(&fleet, &kona, &examples);
        world.link("kubectl", tenure_kit::control_plane::kubectl).await;
        if by_helm {
            world.link("helm", tenure_kit::tools::helm4).await;
        } else {
            world.begin().await;
        }
        world
    }

    /// Has the operator at work, as the Pod of a release would be: here is no node that runs Pods.
    pub async fn begin(&mut self) {
        if self.fixture.operator.is_none() {
            self.fixture.start_with(&["--require-allowed-origins"]).await;
        }
    }

    /// Puts a program on the path that may have to be built first.
    async fn link(&self, name: &str, program: fn() -> anyhow::Result<PathBuf>) {
        let program = tokio::task::spawn_blocking(program).await.unwrap().unwrap();
        std::os::unix::fs::symlink(program, self.folder.join("bin").join(name)).unwrap();
    }

    fn furnish(&self, fleet: &X2Fleet, kona: &KonaServer, examples: &[(String, String)]) {
        for folder in ["bin", "crds", "examples"] {
            std::fs::create_dir_all(self.folder.join(folder)).unwrap();
        }
        let link = std::os::unix::fs::symlink::<PathBuf, PathBuf>;
        link(program().into(), self.folder.join("bin/tenure")).unwrap();
        for folder in ["charts", "examples/install"] {
            link(root().join(folder), self.folder.join(folder)).unwrap();
        }
        let (x2_ca, kona_ca) = (fleet.ca_pem().unwrap(), kona.ca_pem().unwrap());
        for (name, text) in manifests("crds") {
            std::fs::write(self.folder.join(name), text).unwrap();
        }
        for (name, text) in examples {
            let (password, ca) = if name.contains("kona") {
                ("kona-admin-password", &kona_ca)
            } else {
                ("x2-admin-password", &x2_ca)
            };
            self.write(name, &filled_in(text, password, ca));
        }
        for (name, text) in [
            ("x2-password", "x2-admin-password"),
            ("x2-ca.crt", &x2_ca),
            ("kona-password", "kona-admin-password"),
            ("kona-ca.crt", &kona_ca),
        ] {
            std::fs::write(self.folder.join(name), text).unwrap();
        }
        // kubectl works in the page's namespace without being told.
        let mut kubeconfig = self.fixture.plane.kubeconfig().unwrap();
        for context in &mut kubeconfig.contexts {
            context.context.as_mut().unwrap().namespace = Some(self.fixture.ns.name().to_owned());
        }
        std::fs::write(self.folder.join("kubeconfig"), serde_json::to_vec(&kubeconfig).unwrap()).unwrap();
    }

    /// Does what the page takes for granted: `helm` installs the chart, `page` applies the page's own manifests, a path that
    /// file, `ready` waits for the policies, and `playground` runs the playground's program.
    pub async fn set_up(&mut self, page: &Page) {
        for word in page.remark("set-up") {
            match &*word {
                "page" => {
                    for block in
                        page.blocks().iter().filter(|block| block.info.first().is_some_and(|l| l == "yaml"))
                    {
                        let yaml = self.stand_ins.simulated(&block.text);
                        self.fixture.ns.apply_yaml(&yaml).await.unwrap();
                    }
                }
                stand_in if stand_in.contains('=') => {}
                "helm" => {
                    self.shell(INSTALL).await;
                    self.begin().await;
                }
                "playground" => self.play().await,
                "ready" => {
                    self.shell("kubectl wait tp --all --for=condition=Ready --timeout=60s").await;
                }
                file => {
                    self.shell(&format!("kubectl apply -f {file}")).await;
                }
            }
        }
    }

    /// Starts the program that the playground's Pod would run, and adapts the manifests to it.
    async fn play(&mut self) {
        let playground = Playground::read(&self.fixture, "127.77.0.2").await;
        let objects: Vec<String> = playground.adapted().iter().map(ToString::to_string).collect();
        let folder = self.folder.join("examples/playground");
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(folder.join("all.yaml"), objects.join("\n---\n")).unwrap();
        std::fs::write(folder.join("kustomization.yaml"), "resources: [all.yaml]").unwrap();
        self.stand_ins.add("tenure-playground", self.fixture.ns.name());
        self.playground = Some(playground.start());
    }

    /// Writes a file of the page's folder.
    pub fn write(&self, name: &str, text: &str) {
        std::fs::write(self.folder.join(name), self.stand_ins.simulated(text)).unwrap();
    }

    /// What a script prints. It has to end well.
    pub async fn shell(&self, script: &str) -> String {
        let script = self.stand_ins.simulated(script);
        let path = format!("{}:{}", self.folder.join("bin").display(), std::env::var("PATH").unwrap());
        let mut command = Command::new("bash");
        command
            .args(["-euo", "pipefail", "-c", &script])
            .current_dir(&self.folder)
            .env("PATH", path)
            .env("HOME", &self.folder)
            .env("KUBECONFIG", self.folder.join("kubeconfig"))
            .stdin(std::process::Stdio::null())
            .kill_on_drop(true);
        let output = tokio::time::timeout(PATIENCE, command.output());
        let output = output.await.unwrap_or_else(|_| panic!("no end: {script}")).unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
        if !output.status.success() {
            let log = self.fixture.operator.as_ref().map(Operator::log).unwrap_or_default();
            let end: Vec<&str> = log.lines().rev().take(20).collect();
            panic!("{script}\n{stdout}{stderr}\n{}", end.join("\n"));
        }
        stdout
    }

    /// What came out, as the page would show it.
    pub fn documented(&self, text: &str) -> String {
        self.stand_ins.documented(&text.replace(self.fixture.ns.name(), "default"))
    }

    /// Ends the operator, and searches what is left for secrets.
    pub async fn finish(self) {
        self.fixture.finish().await;
        drop(self.playground);
    }
}
