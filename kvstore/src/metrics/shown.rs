//! `OpenMetrics` text as older Prometheus text and as Consul's JSON. Pure; reads only text of our own making.

use std::{
    collections::{BTreeMap, HashMap},
    fmt::Write,
};

use serde_json::{Map, Value, json};

/// In the older format a counter's type stands under the name of its sample, and there are no units and no end mark.
pub(super) fn prometheus(open_metrics: &str) -> String {
    let counters: Vec<&str> =
        open_metrics.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.strip_suffix(" counter")).collect();
    let mut text = String::with_capacity(open_metrics.len());
    for line in open_metrics.lines().filter(|line| !line.starts_with("# UNIT ") && *line != "# EOF") {
        let described = ["# TYPE ", "# HELP "].into_iter().find_map(|mark| Some((mark, line.strip_prefix(mark)?)));
        let _ = match described.and_then(|(mark, rest)| Some((mark, rest.split_once(' ')?))) {
            Some((mark, (name, rest))) if counters.contains(&name) => writeln!(text, "{mark}{name}_total {rest}"),
            _ => writeln!(text, "{line}"),
        };
    }
    text
}

/// One line of the text: a value of a series.
struct Sample<'a> {
    name: &'a str,
    labels: Map<String, Value>,
    value: f64,
}

/// Sum and count of a histogram's series.
#[derive(Default)]
struct Summary {
    sum: f64,
    count: f64,
}

/// What `consul` calls by dotted names, in the lists it has.
pub(super) fn json(open_metrics: &str, dotted: &BTreeMap<String, &'static str>, timestamp: &str) -> Value {
    let kinds: HashMap<&str, &str> =
        open_metrics.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' ')).collect();
    let (mut gauges, mut counters) = (Vec::new(), Vec::new());
    let mut summaries: BTreeMap<(&str, String), Summary> = BTreeMap::new();
    let name_of = |name| dotted.get(name).copied().unwrap_or(name);
    for sample in open_metrics.lines().filter_map(sample) {
        let (name, suffix) = family_of(sample.name, &kinds);
        match (kinds.get(name).copied(), suffix) {
            (Some("gauge"), _) => {
                gauges.push(json!({"Name": name_of(name), "Value": sample.value, "Labels": sample.labels}));
            }
            (Some("counter"), _) => counters.push(counted(name_of(name), sample.value, sample.value, &sample.labels)),
            (Some("histogram"), "_sum" | "_count") => {
                let series = summaries.entry((name, Value::Object(sample.labels).to_string())).or_default();
                *(if suffix == "_sum" { &mut series.sum } else { &mut series.count }) = sample.value;
            }
            _ => {}
        }
    }
    let samples = summaries.into_iter().map(|((name, labels), summary)| {
        let labels: Map<String, Value> = serde_json::from_str(&labels).unwrap_or_default();
        counted(name_of(name), summary.count, summary.sum, &labels)
    });
    let samples: Vec<Value> = samples.collect();
    json!({"Timestamp": timestamp, "Gauges": gauges, "Points": [], "Counters": counters, "Samples": samples})
}

/// Since the start; the least and the greatest are not known.
fn counted(name: &str, count: f64, sum: f64, labels: &Map<String, Value>) -> Value {
    let mean = if count > 0.0 { sum / count } else { 0.0 };
    // A count is a whole number, which Go insists on.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let count = count as u64;
    json!({
        "Name": name, "Count": count, "Rate": 0, "Sum": sum, "Min": 0, "Max": 0, "Mean": mean, "Stddev": 0,
        "Labels": labels,
    })
}

/// The family's name and what a sample's name has beyond it.
fn family_of<'a>(name: &'a str, kinds: &HashMap<&str, &str>) -> (&'a str, &'a str) {
    let suffixes = ["_total", "_sum", "_count", "_bucket"];
    let found =
        suffixes.into_iter().find_map(|suffix| Some((name.strip_suffix(suffix)?, &name[name.len() - suffix.len()..])));
    found.filter(|(family, _)| kinds.contains_key(family)).unwrap_or((name, ""))
}

fn sample(line: &str) -> Option<Sample<'_>> {
    if line.starts_with('#') {
        return None;
    }
    let (series, value) = line.rsplit_once(' ')?;
    let (name, labels) = series.split_once('{').unwrap_or((series, ""));
    Some(Sample { name, labels: labels_of(labels), value: value.parse().ok()? })
}

/// Of `key="value",key="value"}`. A value is whatever a service is called.
fn labels_of(mut text: &str) -> Map<String, Value> {
    let mut labels = Map::new();
    while let Some((key, rest)) = text.split_once("=\"") {
        let (value, rest) = unquoted(rest);
        labels.insert(key.trim_start_matches(',').to_owned(), value.into());
        text = rest;
    }
    labels
}

/// What stands before the quote that ends it, its escapes undone, and what follows.
fn unquoted(text: &str) -> (String, &str) {
    let (mut value, mut chars) = (String::new(), text.char_indices());
    while let Some((at, char)) = chars.next() {
        match char {
            '"' => return (value, &text[at + 1..]),
            '\\' => value.extend(chars.next().map(|(_, char)| if char == 'n' { '\n' } else { char })),
            char => value.push(char),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
# HELP a_b_c Things.
# TYPE a_b_c gauge
a_b_c{x=\"1\",y=\"two\"} 2.5
# HELP a_n Count.
# TYPE a_n counter
a_n_total 7
# HELP a_t Time.
# TYPE a_t histogram
# UNIT a_t seconds
a_t_sum{m=\"GET\"} 3.0
a_t_count{m=\"GET\"} 2
a_t_bucket{le=\"1.0\",m=\"GET\"} 1
a_t_bucket{le=\"+Inf\",m=\"GET\"} 2
# EOF
";

    #[test]
    fn the_older_text_names_counters_by_their_samples() {
        let text = prometheus(TEXT);
        assert!(text.contains("# HELP a_n_total Count.\n# TYPE a_n_total counter\na_n_total 7\n"), "{text}");
        assert!(text.contains("# TYPE a_t histogram\na_t_sum"), "{text}");
        assert!(!text.contains("EOF") && !text.contains("UNIT"));
    }

    #[test]
    fn labels_are_whatever_a_service_is_called() {
        let text = r#"a="x\"y, {z}",b="c:\\d=\n"} 1"#;
        assert_eq!(Value::Object(labels_of(text)), json!({"a": "x\"y, {z}", "b": "c:\\d=\n"}));
        assert_eq!(Value::Object(labels_of("")), json!({}));
    }

    #[test]
    fn the_json_has_consuls_lists_and_names() {
        let dotted = [("a_b_c".to_owned(), "a.b_c"), ("a_n".to_owned(), "a.n"), ("a_t".to_owned(), "a.t")].into();
        let shown = json(TEXT, &dotted, "now");
        assert_eq!(shown["Gauges"], json!([{"Name": "a.b_c", "Value": 2.5, "Labels": {"x": "1", "y": "two"}}]));
        let counter = &shown["Counters"][0];
        assert_eq!((&counter["Name"], &counter["Count"], &counter["Labels"]), (&json!("a.n"), &json!(7), &json!({})));
        let sample = &shown["Samples"][0];
        assert_eq!((&sample["Name"], &sample["Count"], &sample["Sum"]), (&json!("a.t"), &json!(2), &json!(3.0)));
        assert_eq!((&sample["Mean"], &sample["Labels"]), (&json!(1.5), &json!({"m": "GET"})));
        assert_eq!((&shown["Timestamp"], &shown["Points"]), (&json!("now"), &json!([])));
    }
}
