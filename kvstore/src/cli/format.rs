//! Listings: a table for people, or JSON for programs.

use serde::Serialize;

/// How a listing is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Format {
    /// For people.
    #[default]
    #[value(alias = "pretty")]
    Table,
    /// For programs: what the API answers.
    Json,
}

/// The option of every listing.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(super) struct FormatArgs {
    /// A table for people, or JSON as the API answers it.
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t, hide_possible_values = false)]
    pub(super) format: Format,
}

impl FormatArgs {
    /// `value` in the form that is wanted.
    pub(super) fn show<T: Serialize + ?Sized>(self, value: &T, table: impl FnOnce(&T) -> String) -> Vec<u8> {
        match self.format {
            Format::Table => table(value).into(),
            Format::Json => pretty(value),
        }
    }
}

/// JSON with four blanks a level, and a line end.
pub(super) fn pretty<T: Serialize + ?Sized>(value: &T) -> Vec<u8> {
    let mut out = Vec::new();
    let indent = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    let mut serializer = serde_json::Serializer::with_formatter(&mut out, indent);
    value.serialize(&mut serializer).expect("API types have string keys only");
    out.push(b'\n');
    out
}

/// The same for JSON that is text already; names keep their order.
pub(super) fn prettied(json: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let indent = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    let mut serializer = serde_json::Serializer::with_formatter(&mut out, indent);
    let copied = serde_transcode::transcode(&mut serde_json::Deserializer::from_str(json), &mut serializer);
    copied.expect("it was written by us");
    out.push(b'\n');
    out
}
