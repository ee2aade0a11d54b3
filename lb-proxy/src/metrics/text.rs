//! Prometheus' text format, and nothing else: families, rows, escaping.
use super::{Family, Kind};
use std::fmt::{Display, Write};

/// A scrape's answer in the making.
#[derive(Debug, Default)]
pub(super) struct Text(String);

/// Rows of one family.
pub(super) struct Rows<'a> {
    out: &'a mut String,
    family: Family,
}

impl Text {
    /// Begins a family. A family without rows is still named, so that its help can be read.
    pub(super) fn family(&mut self, family: &Family) -> Rows<'_> {
        let kind = match family.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        // Writing to a String cannot fail.
        let _ = writeln!(self.0, "# HELP {0} {1}\n# TYPE {0} {kind}", family.name, family.help);
        Rows { out: &mut self.0, family: *family }
    }

    pub(super) fn finish(self) -> String {
        self.0
    }
}

impl Rows<'_> {
    /// One row; `values` belong to the family's labels, in order.
    pub(super) fn row(mut self, values: &[&str], value: impl Display) -> Self {
        self.sample("", values, None, value);
        self
    }

    /// A histogram: counts *by bucket* (the last is +Inf), and the sum of all values.
    pub(super) fn histogram(mut self, values: &[&str], bounds: &[f64], counts: &[u64], sum: f64) -> Self {
        let mut total = 0;
        for (i, count) in counts.iter().enumerate() {
            total += count;
            let bound = bounds.get(i).map_or("+Inf".to_owned(), f64::to_string);
            self.sample("_bucket", values, Some(&bound), total);
        }
        self.sample("_sum", values, None, sum);
        self.sample("_count", values, None, total);
        self
    }

    fn sample(&mut self, suffix: &str, values: &[&str], bound: Option<&str>, value: impl Display) {
        debug_assert_eq!(values.len(), self.family.labels.len(), "labels of {}", self.family.name);
        let _ = write!(self.out, "{}{suffix}", self.family.name);
        let labels = self.family.labels.iter().copied().zip(values.iter().copied()).chain(bound.map(|b| ("le", b)));
        let mut open = false;
        for (label, value) in labels {
            self.out.push(if open { ',' } else { '{' });
            open = true;
            let _ = write!(self.out, "{label}=\"{}\"", escape(value));
        }
        let _ = writeln!(self.out, "{} {value}", if open { "}" } else { "" });
    }
}

fn escape(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}
