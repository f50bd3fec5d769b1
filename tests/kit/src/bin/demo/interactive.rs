//! The demo to play with: the table follows whatever the user does to it.

use std::io::stdin;
use std::process::Stdio;
use std::thread;
use std::time::Duration;

use anyhow::Result;
use tokio::process::Command;
use tokio::sync::mpsc;

use crate::board::{Board, Kind, is_ready};
use crate::screen::Screen;
use crate::stage::Stage;

/// Checks come this often, so that drift is put back while somebody looks.
const INTERVAL: &str = "30s";
/// What somebody sets behind the operator's back: a week, which no example allows.
const DRIFT: u64 = 604_800;
const READY_TIMEOUT: Duration = Duration::from_mins(1);

/// Shows every change until the user has had enough.
pub(crate) async fn run(stage: &Stage, screen: &Screen) -> Result<()> {
    screen
        .title("The manifests of examples/, with the addresses, passwords and CAs of the simulated systems");
    screen.line(format!("Gateways and customers are checked every {INTERVAL} here."));
    screen.blank();
    let mut board = Board::watch(&stage.namespace, screen).await?;
    stage.apply_examples(Some(INTERVAL), screen).await?;
    screen.blank();
    board.head();
    let all = |board: &Board<'_>| stage.names().all(|(kind, name)| board.has(kind, name, is_ready));
    board.until("every object to be ready", READY_TIMEOUT, all).await?;
    board.talk();
    explain(stage, screen).await;
    let mut keys = keys();
    let mut turn = 0;
    loop {
        tokio::select! {
            changed = board.step() => changed?,
            Some(key) = keys.recv() => match key.trim() {
                "d" => {
                    drift(stage, screen, turn);
                    turn += 1;
                }
                "r" => reset(stage, screen),
                "q" => return Ok(()),
                "" => {}
                _ => screen.line("  d drift   r factory reset   q quit"),
            },
        }
    }
}

async fn explain(stage: &Stage, screen: &Screen) {
    let command = &stage.kubectl.command;
    screen.title("All as declared. Try, in another terminal:");
    screen.blank();
    screen.line(format!("  export KUBECONFIG={}", stage.kubectl.kubeconfig.display()));
    screen.line(format!("  {command} get tenure"));
    if let Some(policy) = stage.names().find(|(kind, _)| *kind == Kind::Policy).map(|(_, name)| name) {
        let patch = r#"'{"spec":{"timeoutSeconds":3600}}'"#;
        screen.line(format!("  {command} patch tp {policy} --type merge -p {patch}"));
    }
    if let Some((name, _)) = stage.world.gateways.first() {
        screen.line(format!("  {command} describe x2 {name}"));
        screen.line(format!(
            "  {command} annotate x2 --all --overwrite tenure.dev/reconcile-requested-at=\"$(date)\""
        ));
    }
    let is_declared = |gateway: &str| stage.names().any(|pair| pair == (Kind::Gateway, gateway));
    let free = stage.world.gateways.iter().filter(|(name, _)| !is_declared(name));
    let free: Vec<String> = free.map(|(_, appliance)| appliance.url()).collect();
    screen.line(
        "  Your own X2Gateway can use the Secret x2-admin, the ConfigMap x2-ca, and one of these URLs:",
    );
    screen.line(format!("  {}", free.join("  ")));
    if !has_kubectl().await {
        screen.line("  (kubectl is not on your PATH: https://kubernetes.io/docs/tasks/tools has it)");
    }
    screen.title("Or here, a letter and Enter:");
    screen.blank();
    screen.line(format!("  d   drift: set {DRIFT}s on an appliance itself"));
    screen.line("  r   reset all appliances to factory settings, 86400s");
    screen.line("  q   quit, as Ctrl-C does; everything is removed");
    screen.blank();
}

async fn has_kubectl() -> bool {
    let mut kubectl = Command::new("kubectl");
    kubectl.args(["version", "--client"]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    kubectl.kill_on_drop(true).status().await.is_ok_and(|status| status.success())
}

/// One appliance after the other.
fn drift(stage: &Stage, screen: &Screen, turn: usize) {
    let gateways = &stage.world.gateways;
    let Some((name, appliance)) = gateways.iter().cycle().nth(turn % gateways.len().max(1)) else { return };
    let before = appliance.timeout();
    appliance.set_timeout(DRIFT);
    screen.line(format!("  {:<10}x2/{name:<19}{before}s -> {DRIFT}s, on the appliance itself", "drift"));
}

fn reset(stage: &Stage, screen: &Screen) {
    for (name, appliance) in &stage.world.gateways {
        let before = appliance.timeout();
        appliance.factory_reset();
        let after = appliance.timeout();
        screen.line(format!("  {:<10}x2/{name:<19}{before}s -> {after}s, on the appliance itself", "reset"));
    }
}

/// Lines from standard input. On a thread of its own, for a read cannot be called off; none come where there is no input.
fn keys() -> mpsc::UnboundedReceiver<String> {
    let (send, receive) = mpsc::unbounded_channel();
    thread::spawn(move || {
        for line in stdin().lines().map_while(Result::ok) {
            if send.send(line).is_err() {
                return;
            }
        }
    });
    receive
}
