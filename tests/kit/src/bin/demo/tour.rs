//! The scripted tour: six things, each announced, shown and checked.

mod rollout;
mod steps;

use std::fmt::Debug;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tenure_kit::requests::Counts;

use crate::board::{Board, Kind, has_handled};
use crate::screen::{Look, Screen};
use crate::stage::Stage;

/// Longest wait for anything that takes no time by design.
const SOON: Duration = Duration::from_secs(30);
/// Lines of the operator's log that are shown when a step fails.
const LINES_OF_LOG: usize = 15;

/// A tour under way.
struct Tour<'a> {
    stage: &'a Stage,
    screen: &'a Screen,
    board: Board<'a>,
    figures: Vec<Figures>,
    requests: u32,
}

/// What a step took.
struct Figures {
    name: &'static str,
    time: Duration,
    counts: Counts,
}

/// Goes through all steps.
///
/// # Errors
/// The first thing that is not as expected: what was expected and what was seen.
pub(crate) async fn run(stage: &Stage, screen: &Screen) -> Result<()> {
    let board = Board::watch(&stage.namespace, screen).await?;
    let mut tour = Tour { stage, screen, board, figures: Vec::new(), requests: 0 };
    let done = tour.go().await;
    if done.is_err() {
        let log = stage.operator.log();
        let lines: Vec<&str> = log.lines().collect();
        screen.title("The end of the operator's log");
        lines.iter().skip(lines.len().saturating_sub(LINES_OF_LOG)).for_each(|line| screen.line(line));
    }
    done
}

impl Tour<'_> {
    async fn go(&mut self) -> Result<()> {
        self.step(
            "Convergence",
            "Apply examples/: every appliance and customer gets the declared lifetime.",
            Self::converge,
        )
        .await?;
        self.step("Drift", "An appliance is reset to factory settings: tenure corrects it.", Self::drift)
            .await?;
        self.step(
            "Change",
            "A policy changes: its gateways follow, and no other gateway is asked.",
            Self::change,
        )
        .await?;
        let story = "The Secret has a wrong password: it is not tried again until it is corrected.";
        self.step("Password", story, Self::password).await?;
        self.step("Quiet", "Nothing changes: a check is one GET and nothing else.", Self::quiet).await?;
        let story = "The canary of a new policy fails: no other gateway is changed until it is repaired.";
        self.step("Rollout", story, Self::roll_out).await?;
        let others: u64 = self.figures.iter().map(|Figures { counts, .. }| others(counts)).sum();
        check("requests that are neither logins nor GETs nor writes", &0, &others)?;
        self.sum_up();
        Ok(())
    }

    async fn step(
        &mut self,
        name: &'static str,
        story: &str,
        work: impl AsyncFnOnce(&mut Self) -> Result<()>,
    ) -> Result<()> {
        let number = self.figures.len() + 1;
        self.screen.title(&format!("{number}  {name}"));
        self.screen.line(format!("   {story}"));
        self.screen.blank();
        let before = self.stage.world.counts();
        self.board.restart();
        work(self).await.with_context(|| format!("step {number}, {name}"))?;
        let counts = self.stage.world.counts() - before;
        self.figures.push(Figures { name, time: self.board.elapsed(), counts });
        Ok(())
    }

    /// Asks for a look at objects now, and waits until each has ended.
    async fn look(&mut self, objects: &[(Kind, &str)]) -> Result<()> {
        self.requests += 1;
        let value = format!("tour-{}", self.requests);
        for (kind, name) in objects {
            self.stage.request(kind.name(), name, &value).await?;
        }
        let handled = |board: &Board<'_>| {
            objects.iter().all(|(kind, name)| board.has(*kind, name, |object| has_handled(object, &value)))
        };
        self.board.until("every check to end", SOON, handled).await
    }

    fn sum_up(&self) {
        self.screen.title("All steps passed");
        self.screen.blank();
        let head =
            format!("  {:<4}{:<16}{:>9}{:>10}{:>8}{:>10}", "", "STEP", "TIME", "LOGINS", "GETS", "WRITES");
        self.screen.line(self.screen.paint(Look::Dim, &head));
        for (number, Figures { name, time, counts }) in (1..).zip(&self.figures) {
            let Counts { login, get, write, .. } = counts;
            let time = time.as_secs_f64();
            self.screen.line(format!("  {number:<4}{name:<16}{time:>7.2} s{login:>10}{get:>8}{write:>10}"));
        }
        self.screen.blank();
    }
}

/// Compares what was expected with what was seen.
fn check<T: PartialEq + Debug>(what: &str, expected: &T, seen: &T) -> Result<()> {
    ensure!(expected == seen, "{what}\n  expected {expected:?}\n  seen     {seen:?}");
    Ok(())
}

/// Requests of kinds that nothing in the tour calls for.
const fn others(counts: &Counts) -> u64 {
    counts.refresh + counts.delete + counts.other
}
