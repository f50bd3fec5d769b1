//! What the kernel knows of the operator's process, and of the machine.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};

/// In which the kernel counts a process's time, whatever its own clock: a hundredth of a second.
const TICK: Duration = Duration::from_millis(10);

/// What a process has used so far.
#[derive(Clone, Copy, Debug)]
pub struct Usage {
    /// Processor time of all its threads, the kernel's work for it included.
    pub cpu: Duration,
    /// Resident memory now, in KiB.
    pub memory: u64,
    /// The most resident memory it ever had, in KiB.
    pub peak: u64,
}

impl Usage {
    pub fn of(process: u32) -> Result<Self> {
        let read = |file: &str| {
            let path = format!("/proc/{process}/{file}");
            fs::read_to_string(&path).with_context(|| format!("the operator has ended: {path}"))
        };
        let (stat, status) = (read("stat")?, read("status")?);
        // The second field is the program's name in parentheses, which may hold anything; utime and stime are the
        // fourteenth and fifteenth.
        let fields = stat.rsplit_once(") ").map(|(_, fields)| fields.split(' ').skip(11).take(2));
        let ticks = fields.ok_or_else(|| anyhow!("no such stat: {stat}"))?.map(str::parse::<u32>);
        let ticks: u32 = ticks.sum::<Result<u32, _>>()?;
        let kibibytes = |name: &str| {
            let value = status.lines().find_map(|line| line.strip_prefix(name)?.strip_suffix(" kB"));
            value.and_then(|value| value.trim().parse().ok()).ok_or_else(|| anyhow!("no {name} in {status}"))
        };
        Ok(Self { cpu: TICK * ticks, memory: kibibytes("VmRSS:")?, peak: kibibytes("VmHWM:")? })
    }

    /// Memory now and at its height.
    pub fn memory_told(&self) -> String {
        let mebibytes = |kibibytes: u64| (kibibytes + 512) / 1024;
        format!("{} MiB, {} MiB", mebibytes(self.memory), mebibytes(self.peak))
    }
}

/// How busy the machine is for a second, in percent: what others do there is in every figure.
pub async fn load() -> Result<u64> {
    let read = || {
        let stat = fs::read_to_string("/proc/stat").context("reading /proc/stat")?;
        let line = stat.lines().next().unwrap_or_default();
        let times: Vec<u64> = line.split_whitespace().filter_map(|field| field.parse().ok()).collect();
        // user, nice, system, idle, iowait, irq, softirq, steal; guests are in user.
        let idle: u64 = times.iter().skip(3).take(2).sum();
        anyhow::Ok((times.iter().take(8).sum::<u64>(), idle))
    };
    let before = read()?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let after = read()?;
    let passed = (after.0 - before.0).max(1);
    Ok(100 - 100 * (after.1 - before.1).min(passed) / passed)
}
