//! Least, median and most, and how they are told.

use std::io::Write as _;
use std::time::Duration;

use crate::measure::{
    COLD, CREDENTIALS, FIRST, FLOOR, HOST_MEMORY, HUNDRED_MB, ONE_MB, ROUND, SANDBOX_MEMORY, SPAWN,
    TWENTY,
};

pub(crate) const SANDBOX_SIZE: &str = "sandbox on disk";
pub(crate) const HOST_SIZE: &str = "airlock on disk";

/// What was measured, in the order in which it was first measured.
#[derive(Default)]
pub(crate) struct Table(Vec<Row>);

struct Row {
    name: &'static str,
    unit: &'static str,
    /// One for each round.
    values: Vec<f64>,
}

impl Table {
    pub(crate) fn time(&mut self, name: &'static str, time: Duration) {
        self.add(name, "ms", time.as_secs_f64() * 1e3);
    }

    #[expect(clippy::cast_precision_loss, reason = "sizes are told with two digits")]
    pub(crate) fn size(&mut self, name: &'static str, bytes: u64) {
        self.add(name, "MB", bytes as f64 / 1e6);
    }

    fn add(&mut self, name: &'static str, unit: &'static str, value: f64) {
        match self.0.iter_mut().find(|row| row.name == name) {
            Some(row) => row.values.push(value),
            None => self.0.push(Row { name, unit, values: vec![value] }),
        }
    }

    fn values(&self, name: &str) -> &[f64] {
        self.0.iter().find(|row| row.name == name).map_or(&[], |row| &row.values)
    }

    /// What follows from several lines, round by round.
    fn reckon<const N: usize>(&self, names: [&str; N], sum: impl Fn([f64; N]) -> f64) -> Vec<f64> {
        let lines = names.map(|name| self.values(name));
        let rounds = lines.iter().map(|line| line.len()).min().unwrap_or(0);
        (0..rounds).map(|round| sum(lines.map(|line| line[round]))).collect()
    }

    pub(crate) fn print(&self) {
        let mut lines = vec![format!("{:44} {:>10} {:>10} {:>10}", "", "least", "median", "most")];
        for row in &self.0 {
            lines.push(format!("{}  {}", told(row.name, &row.values), row.unit));
        }
        lines.push(String::new());
        let mut bound = |what: &str, unit: &str, values: Vec<f64>, most: f64| {
            let verdict = if median(&values) <= most { "ok" } else { "OVER" };
            lines.push(format!("{}  {unit}, at most {most}: {verdict}", told(what, &values)));
        };
        bound("start response to first request", "ms", self.values(FIRST).to_vec(), 15.0);
        let round = self.reckon([ROUND, SPAWN], |[round, spawn]| round - spawn);
        bound("one round over a bare spawn", "ms", round, 2.0);
        let twenty =
            self.reckon([TWENTY, FLOOR, SPAWN], |[run, floor, spawn]| run - floor - 20.0 * spawn);
        bound("20 rounds over floor and 20 bare spawns", "ms", twenty, 60.0);
        bound("credentials of a run, its token good", "ms", self.values(CREDENTIALS).to_vec(), 1.0);
        bound("sandbox on disk", "MB", self.values(SANDBOX_SIZE).to_vec(), 8.0);
        bound("sandbox resident", "MB", self.values(SANDBOX_MEMORY).to_vec(), 10.0);
        bound("airlock resident", "MB", self.values(HOST_MEMORY).to_vec(), 25.0);
        for (what, unit, values) in [
            ("cold run over its floor", "times", self.reckon([COLD, FLOOR], |[a, b]| a / b)),
            ("cold run over its floor", "ms", self.reckon([COLD, FLOOR], |[a, b]| a - b)),
            ("1 MB through the link", "ms", self.reckon([ONE_MB, COLD], |[a, b]| a - b)),
            ("100 MB through the link", "ms", self.reckon([HUNDRED_MB, COLD], |[a, b]| a - b)),
        ] {
            lines.push(format!("{}  {unit}", told(what, &values)));
        }
        // Whoever reads may have gone.
        drop(writeln!(std::io::stdout().lock(), "{}", lines.join("\n")));
    }
}

fn told(name: &str, values: &[f64]) -> String {
    let least = values.iter().copied().fold(f64::INFINITY, f64::min);
    let most = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    format!("{name:44} {least:>10.2} {:>10.2} {most:>10.2}", median(values))
}

pub(crate) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        length if length % 2 == 1 => sorted[length / 2],
        length => f64::midpoint(sorted[length / 2 - 1], sorted[length / 2]),
    }
}
