//! One line of the log, in the two forms in which Consul's clients read it.

use std::fmt::{self, Write};

use serde_json::{Map, Value};
use tracing::{
    Event, Level,
    field::{Field, Visit},
};
use tracing_subscriber::fmt::{
    format::Writer,
    time::{FormatTime, SystemTime},
};

/// What was said, when, how loud.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    pub(crate) level: Level,
    time: String,
    module: &'static str,
    message: String,
    fields: Vec<(&'static str, String)>,
}

impl Line {
    pub(super) fn of(event: &Event<'_>) -> Self {
        let (metadata, mut time) = (event.metadata(), String::new());
        // Writing to a string does not fail.
        let _ = SystemTime.format_time(&mut Writer::new(&mut time));
        let line = Self {
            level: *metadata.level(),
            time,
            module: metadata.module_path().unwrap_or_default(),
            message: String::new(),
            fields: Vec::new(),
        };
        let mut fill = Fill(line);
        event.record(&mut fill);
        fill.0
    }

    /// `TIME [LEVEL] module: message: key=value ...`
    pub(crate) fn text(&self) -> String {
        let level = format!("[{}]", self.level);
        let mut text = format!("{} {level:<7} {}: {}", self.time, self.module, self.message);
        for (n, (name, value)) in self.fields.iter().enumerate() {
            let between = if n == 0 { ":" } else { "" };
            let quote = value.is_empty() || value.contains(|c: char| c.is_whitespace() || c == '"' || c.is_control());
            // Writing to a string does not fail.
            let _ = if quote {
                write!(text, "{between} {name}={value:?}")
            } else {
                write!(text, "{between} {name}={value}")
            };
        }
        // Whatever a client sent that is quoted in a message stays on its line.
        text.replace(['\n', '\r'], " ") + "\n"
    }

    /// An object with `@level`, `@message`, `@module`, `@timestamp` and the fields.
    pub(crate) fn json(&self) -> String {
        let mut object = Map::new();
        object.insert("@level".into(), self.level.as_str().to_lowercase().into());
        object.insert("@message".into(), self.message.clone().into());
        object.insert("@module".into(), self.module.into());
        object.insert("@timestamp".into(), self.time.clone().into());
        object.extend(self.fields.iter().map(|(name, value)| ((*name).to_owned(), value.clone().into())));
        Value::Object(object).to_string() + "\n"
    }
}

struct Fill(Line);

impl Visit for Fill {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "message" => value.clone_into(&mut self.0.message),
            name => self.0.fields.push((name, value.to_owned())),
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.record_str(field, &format!("{value:?}"));
    }
}
