//! Medians, and how they are told.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::time::Duration;

/// What was measured, by name, in the order in which it was first measured.
#[derive(Default)]
pub(crate) struct Table {
    order: Vec<String>,
    times: BTreeMap<String, Vec<f64>>,
    sizes: BTreeMap<String, Vec<f64>>,
}

impl Table {
    pub(crate) fn time(&mut self, name: &str, time: Duration) {
        self.named(name);
        self.times.entry(name.to_owned()).or_default().push(time.as_secs_f64() * 1e3);
    }

    #[expect(clippy::cast_precision_loss, reason = "sizes are told with two digits")]
    pub(crate) fn size(&mut self, name: &str, bytes: u64) {
        self.named(name);
        self.sizes.entry(name.to_owned()).or_default().push(bytes as f64 / 1e6);
    }

    fn named(&mut self, name: &str) {
        if !self.order.iter().any(|known| known == name) {
            self.order.push(name.to_owned());
        }
    }

    /// The median of a time, in milliseconds.
    fn ms(&self, name: &str) -> f64 {
        self.times.get(name).map_or(f64::NAN, |times| median(times))
    }

    fn mb(&self, name: &str) -> f64 {
        self.sizes.get(name).map_or(f64::NAN, |sizes| median(sizes))
    }

    pub(crate) fn print(&self) {
        let mut lines = vec![format!("{:44} {:>10} {:>10} {:>10}", "", "median", "least", "most")];
        for name in &self.order {
            let (values, unit) = match (self.times.get(name), self.sizes.get(name)) {
                (Some(times), _) => (times, "ms"),
                (None, Some(sizes)) => (sizes, "MB"),
                (None, None) => continue,
            };
            let least = values.iter().copied().fold(f64::INFINITY, f64::min);
            let most = values.iter().copied().fold(0.0, f64::max);
            let middle = median(values);
            lines.push(format!("{name:44} {middle:>10.2} {least:>10.2} {most:>10.2}  {unit}"));
        }
        let floor = self.ms("floor: the same container, /bin/true");
        let spawn = self.ms("floor: one bare spawn of `sh -c true`");
        let cold = self.ms("a run of no round");
        let round = (self.ms("a run of 20 rounds") - cold) / 20.0;
        lines.push(String::new());
        let mut bound = |what: &str, is: f64, most: f64, unit: &str| {
            let verdict = if is <= most { "ok" } else { "OVER" };
            lines.push(format!("{what:44} {is:>10.2} of {most:>7.2}  {unit}  {verdict}"));
        };
        bound("cold run over its floor", cold / floor, 2.0, "times");
        bound(
            "start response to first request",
            self.ms("start response to first request"),
            15.0,
            "ms",
        );
        bound("one round over a bare spawn", round - spawn, 2.0, "ms");
        let twenty = self.ms("a run of 20 rounds") - floor - 20.0 * spawn;
        bound("20 rounds over floor and 20 bare spawns", twenty, 60.0, "ms");
        bound("sandbox on disk", self.mb("sandbox on disk"), 8.0, "MB");
        bound("sandbox resident", self.mb("sandbox resident"), 10.0, "MB");
        bound("airlock resident", self.mb("airlock resident"), 25.0, "MB");
        let link = |name: &str| self.ms(name) - cold;
        lines.push(format!(
            "{:44} {:>10.2}  ms",
            "1 MB through the link",
            link("a run with 1 MB in its workspace")
        ));
        lines.push(format!(
            "{:44} {:>10.2}  ms",
            "100 MB through the link",
            link("a run with 100 MB in its workspace")
        ));
        // Whoever reads may have gone.
        drop(writeln!(std::io::stdout().lock(), "{}", lines.join("\n")));
    }
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        length if length % 2 == 1 => sorted[length / 2],
        length => f64::midpoint(sorted[length / 2 - 1], sorted[length / 2]),
    }
}
