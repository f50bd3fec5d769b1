//! What the pages tell people to type is typed: each page's commands, in order, in a namespace of its own, by the real
//! kubectl, with the operator at work on simulated systems; and what they show is what comes out.
//!
//! A block marked `sh` or `console` that calls one of our programs is run. One marked `not-run` is not; where it calls one, it
//! says why in a remark `<!-- not run: … -->` before it. A YAML or CSV block that begins with `# NAME` is that file. `<!-- set-up: … -->` names what a page takes for granted.

mod console;
mod stand_in;
mod world;

use std::collections::{BTreeMap, BTreeSet};

use futures::StreamExt as _;
use serde_json::json;
use tenure_kit::book::{Block, Page, pages};
use tenure_kit::kona::KonaOptions;

use super::fixture::*;
use world::World;

/// Pages at work at the same time: each has an operator.
const AT_ONCE: usize = 4;
const PROGRAMS: [&str; 3] = ["kubectl", "tenure", "helm"];

fn is_marked(block: &Block, word: &str) -> bool {
    block.info.iter().skip(1).any(|w| w == word)
}

/// Whether a block tells people to call one of the programs.
fn calls(block: &Block) -> bool {
    let mut words = block.text.lines().filter_map(|line| line.trim_start_matches("$ ").split(' ').next());
    words.any(|word| PROGRAMS.contains(&word))
}

fn is_run(block: &Block) -> bool {
    calls(block) && !is_marked(block, "not-run")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_commands_of_the_pages_do_what_the_pages_say() {
    let pages = pages(root()).unwrap().into_iter().filter(|page| page.blocks().iter().any(is_run));
    let mut runs = futures::stream::iter(pages.map(run)).buffer_unordered(AT_ONCE);
    let (mut ran, mut commands) = (0, 0);
    while let Some(count) = runs.next().await {
        ran += 1;
        commands += count;
    }
    assert!(ran >= 18 && commands >= 60, "only {commands} blocks and commands of {ran} pages were run");
}

/// Runs a page; how many blocks and commands that were.
async fn run(page: Page) -> usize {
    let mut world = World::new(&page).await;
    world.set_up(&page).await;
    let mut commands = 0;
    for block in page.blocks() {
        if let Some(name) = world::file_name(&block) {
            world.write(name, &block.text);
        } else if is_run(&block) && block.info[0] == "console" {
            for step in console::steps(&block.text) {
                let output = world.shell(&step.command).await;
                let difference = console::difference(&step.output, &world.documented(&output));
                let at = page.path.display();
                assert!(difference.is_none(), "{at}: {}\n{}", step.command, difference.unwrap_or_default());
                commands += 1;
            }
        } else if is_run(&block) {
            world.shell(&block.text).await;
            if block.text.contains("helm install") {
                world.begin().await;
            }
            commands += 1;
        }
    }
    world.finish().await;
    commands
}

#[test]
fn what_is_not_run_says_why_and_is_rare() {
    let mut excused = 0;
    for page in pages(root()).unwrap() {
        let at = page.path.display();
        for block in page.blocks() {
            let is_shell = matches!(block.info.first().map(String::as_str), Some("sh" | "console"));
            let is_not_run = is_marked(&block, "not-run");
            assert!(
                !is_shell || is_not_run || calls(&block),
                "{at}: this is not run, and not marked: {block:?}"
            );
            if is_not_run && calls(&block) {
                assert!(
                    block.excuse.as_ref().is_some_and(|why| why.len() > 15),
                    "{at} does not say why this is not run: {block:?}"
                );
                excused += 1;
            }
            // A mark that nobody knows would hide a command.
            let is_known = is_shell && block.info.iter().skip(1).all(|word| word == "not-run");
            assert!(is_known || !calls(&block), "{at}: {block:?}");
        }
    }
    assert!(excused <= 14, "{excused} blocks are not run");
}

/// Name, type and labels of what `/metrics` shows.
fn exposed(text: &str) -> BTreeMap<String, (String, BTreeSet<String>)> {
    let mut metrics = BTreeMap::new();
    for line in text.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
        let (family, kind) = line.split_once(' ').unwrap();
        let name = match kind {
            "counter" => format!("{family}_total"),
            "info" => format!("{family}_info"),
            _ => family.to_owned(),
        };
        let sample = if kind == "histogram" { format!("{family}_count") } else { name.clone() };
        let samples = text.lines().filter_map(|line| line.strip_prefix(&sample));
        let mut labelled = samples.filter_map(|rest| rest.strip_prefix('{')?.split_once('}'));
        let labels = labelled.next().map_or("", |(labels, _)| labels);
        let names =
            labels.split("\",").filter_map(|label| label.split_once('=')).map(|(name, _)| name.to_owned());
        metrics.insert(name, (kind.to_owned(), names.collect()));
    }
    metrics
}

/// The same as the page's table has it.
fn tabled(page: &str) -> BTreeMap<String, (String, BTreeSet<String>)> {
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `tenure_"));
    rows.map(|row| {
        let (metric, rest) = row.split_once("` | ").unwrap();
        let (name, labels) = metric.trim_end_matches('}').split_once('{').unwrap_or((metric, ""));
        let labels = labels.split(',').filter(|label| !label.is_empty()).map(str::to_owned).collect();
        (format!("tenure_{name}"), (rest.split(' ').next().unwrap().to_owned(), labels))
    })
    .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_of_the_metrics_lists_what_an_operator_at_work_shows() {
    const ID: &str = "1d2b7a10-0f2c-11ee-be56-0242ac120002";
    let fleet = fleet(2);
    let kona = tenure_kit::kona::KonaServer::start(KonaOptions::default()).unwrap();
    kona.add_customer(ID, "Acme");
    let mut f = Fixture::new("measured").await;
    f.credentials(&fleet).await;
    f.kona(&kona).await;
    f.apply(&gateway("x2-1", &fleet.appliance(0))).await;
    let elsewhere = json!({"metadata": {"labels": {"site": "rome"}}});
    f.apply(&with(gateway("x2-2", &fleet.appliance(1)), elsewhere)).await;
    let selector = json!({"matchLabels": {"site": "berlin"}});
    f.apply(&policy("short", json!({"timeoutSeconds": 28800, "gatewaySelector": selector}))).await;
    f.apply(&customer("acme", ID, 3600, 86_400)).await;
    let namespace = f.ns.name().to_owned();
    f.start_with(&["--metrics-per-object", "--namespaces", &namespace, "--allow-cidr", "127.0.0.0/8"]).await;
    f.reason("TokenPolicy", "short", "InSync").await;
    f.reason("KonaServer", "kona", "InSync").await;
    f.reason("X2Gateway", "x2-2", "Unmanaged").await;
    fleet.appliance(0).factory_reset();
    f.look("X2Gateway", "x2-1", "drifted").await;
    f.event("x2-1", "DriftCorrected").await;
    let shown = exposed(&f.operator().metrics().await.unwrap());
    let page = std::fs::read_to_string(root().join("docs/reference/metrics.md")).unwrap();
    assert_eq!(tabled(&page), shown);
    f.finish().await;
}
