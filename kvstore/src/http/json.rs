//! JSON in and out: compact or pretty as Consul prints it, and bodies read as Go reads them.
//!
//! Go matches field names without regard to case, takes `null` for "not given", and Consul refuses unknown fields. A
//! derived `Deserialize` does none of that, so bodies pass through [`Lenient`], which maps each object's names to those
//! that the type declares before the type sees them.

use bytes::Bytes;
use serde::{
    Deserialize, Serialize,
    de::{
        self, DeserializeSeed, Deserializer, IntoDeserializer, MapAccess, SeqAccess, Visitor, value::StrDeserializer,
    },
    forward_to_deserialize_any,
};
use serde_json::{Value, ser::PrettyFormatter};

use super::error::ApiError;

/// Of an unknown field's name, this much is shown.
const MAX_UNKNOWN_NAME_CHARS: usize = 100;

/// `value` without blanks.
pub(super) fn compact(value: &impl Serialize) -> Bytes {
    serde_json::to_vec(value).expect("API types have string keys only").into()
}

/// Compact JSON, of our own making, with four spaces an indent and a line end.
pub(super) fn pretty(compact: &[u8]) -> Bytes {
    let mut out = Vec::with_capacity(compact.len() * 2);
    let mut serializer = serde_json::Serializer::with_formatter(&mut out, PrettyFormatter::with_indent(b"    "));
    let mut reader = serde_json::Deserializer::from_slice(compact);
    if serde_transcode::transcode(&mut reader, &mut serializer).is_err() {
        return Bytes::copy_from_slice(compact);
    }
    out.push(b'\n');
    out.into()
}

/// The body as a `T`.
///
/// # Errors
/// [`ApiError::BadRequest`] in Go's words: cut, not JSON, an unknown field, or a field of the wrong kind.
pub(super) fn decode<T: for<'de> Deserialize<'de>>(body: &[u8]) -> Result<T, ApiError> {
    decode_as(body, "Request decode failed", Unknown::Refused)
}

/// The body as a `T`; what `T` does not know is left out, as Consul does where a session is made.
///
/// # Errors
/// As [`decode`], but for unknown fields.
pub(super) fn decode_known<T: for<'de> Deserialize<'de>>(body: &[u8]) -> Result<T, ApiError> {
    decode_as(body, "Request decode failed", Unknown::LeftOut)
}

/// The steps of a transaction.
///
/// # Errors
/// As [`decode_known`].
pub(super) fn decode_steps<T: for<'de> Deserialize<'de>>(body: &[u8]) -> Result<T, ApiError> {
    decode_as(body, "Failed to parse body", Unknown::LeftOut)
}

/// What becomes of fields that a type does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unknown {
    Refused,
    LeftOut,
}

fn decode_as<T: for<'de> Deserialize<'de>>(body: &[u8], failed: &str, unknown: Unknown) -> Result<T, ApiError> {
    let failed = |why: String| ApiError::BadRequest(format!("{failed}: {why}"));
    if body.iter().all(u8::is_ascii_whitespace) {
        return Err(failed("EOF".into()));
    }
    let value: Value = serde_json::from_slice(body)
        .map_err(|e| failed(if e.is_eof() { "unexpected EOF".into() } else { e.to_string() }))?;
    T::deserialize(Lenient { value: &value, unknown }).map_err(|e| failed(e.to_string()))
}

/// A JSON value whose objects fill structs as Go would.
struct Lenient<'a> {
    value: &'a Value,
    unknown: Unknown,
}

type Error = serde_json::Error;

impl<'de, 'a: 'de> Deserializer<'de> for Lenient<'a> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.value {
            Value::Array(items) => visitor.visit_seq(Items { items: items.iter(), unknown: self.unknown }),
            Value::Object(_) => visitor.visit_map(Entries::of(&self, None)),
            other => other.deserialize_any(visitor),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        match self.value {
            Value::Object(_) => visitor.visit_map(Entries::of(&self, Some(fields))),
            Value::Array(_) => Err(de::Error::custom("json: an array where an object is wanted")),
            other => other.deserialize_struct(name, fields, visitor),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        if self.value.is_null() { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.value.deserialize_enum(name, variants, visitor)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple
        tuple_struct map identifier ignored_any
    }
}

struct Items<'a> {
    items: std::slice::Iter<'a, Value>,
    unknown: Unknown,
}

impl<'de, 'a: 'de> SeqAccess<'de> for Items<'a> {
    type Error = Error;
    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Error> {
        let unknown = self.unknown;
        self.items.next().map(|value| seed.deserialize(Lenient { value, unknown })).transpose()
    }
}

struct Entries<'a> {
    rest: serde_json::map::Iter<'a>,
    /// The struct's own names; `None` for a map, whose names are data.
    fields: Option<&'static [&'static str]>,
    /// Fields given so far: under another spelling the last one counts, as in Go, and serde would refuse a second.
    value: Option<&'a Value>,
    whole: &'a serde_json::Map<String, Value>,
    unknown: Unknown,
}

impl<'a> Entries<'a> {
    fn of(object: &Lenient<'a>, fields: Option<&'static [&'static str]>) -> Self {
        let Value::Object(whole) = object.value else { unreachable!("the caller has looked") };
        Self { rest: whole.iter(), fields, value: None, whole, unknown: object.unknown }
    }

    /// The declared name that `given` means, in any case.
    fn canonical(fields: &'static [&'static str], given: &str) -> Option<&'static str> {
        let exact = fields.iter().find(|field| **field == given);
        exact.or_else(|| fields.iter().find(|field| field.eq_ignore_ascii_case(given))).copied()
    }
}

impl<'de, 'a: 'de> MapAccess<'de> for Entries<'a> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Error> {
        for (name, value) in self.rest.by_ref() {
            let Some(fields) = self.fields else {
                self.value = Some(value);
                let key: StrDeserializer<'_, Error> = name.as_str().into_deserializer();
                return seed.deserialize(key).map(Some);
            };
            let Some(field) = Self::canonical(fields, name) else {
                if self.unknown == Unknown::LeftOut {
                    continue;
                }
                let shown: String = name.chars().take(MAX_UNKNOWN_NAME_CHARS).collect();
                return Err(de::Error::custom(format_args!("json: unknown field {shown:?}")));
            };
            let spelled_better = field != name && self.whole.contains_key(field);
            // `null` means "not given", whatever the field's type.
            if value.is_null() || spelled_better {
                continue;
            }
            self.value = Some(value);
            let key: StrDeserializer<'_, Error> = field.into_deserializer();
            return seed.deserialize(key).map(Some);
        }
        Ok(None)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        let value = self.value.take().expect("a value follows each name");
        seed.deserialize(Lenient { value, unknown: self.unknown })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use kvstore_client::{GoDuration, types::ServiceRegistration};

    use super::*;

    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(rename_all = "PascalCase", default)]
    struct Inner {
        #[serde(alias = "some_time")]
        some_time: Option<GoDuration>,
        pairs: BTreeMap<String, String>,
    }

    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(rename_all = "PascalCase", default)]
    struct Outer {
        name: String,
        #[serde(rename = "ID")]
        id: String,
        list: Vec<Inner>,
        one: Option<Inner>,
        any: Value,
    }

    fn outer(json: &str) -> Result<Outer, String> {
        decode(json.as_bytes()).map_err(|e| e.to_string())
    }

    #[test]
    fn names_match_in_any_case_and_null_is_not_given() {
        let got = outer(r#"{"name":"a","id":"b","LIST":[{"SomeTime":"5s"},{"some_time":7}],"one":null,"Name":null}"#);
        let time = |nanos| Some(GoDuration(std::time::Duration::from_nanos(nanos)));
        let inner = |nanos| Inner { some_time: time(nanos), ..Inner::default() };
        let want = Outer { id: "b".into(), list: vec![inner(5_000_000_000), inner(7)], ..Outer::default() };
        assert_eq!(got.unwrap(), want, "the exact spelling, even null, beats another one");
    }

    #[test]
    fn names_inside_maps_are_data() {
        let got = outer(r#"{"One":{"Pairs":{"Aa":"1","aA":"2"}},"Any":{"x":[null,1]}}"#).unwrap();
        assert_eq!(got.one.unwrap().pairs.len(), 2);
        assert_eq!(got.any, serde_json::json!({"x": [null, 1]}));
    }

    #[test]
    fn what_is_wrong_is_said_in_gos_words() {
        for (json, why) in [
            ("", "Request decode failed: EOF"),
            (" \n", "Request decode failed: EOF"),
            ("{", "Request decode failed: unexpected EOF"),
            (r#"{"Bogus":1}"#, "Request decode failed: json: unknown field \"Bogus\""),
            (r#"{"One":{"Bogus":1}}"#, "Request decode failed: json: unknown field \"Bogus\""),
        ] {
            assert_eq!(outer(json).unwrap_err(), why, "{json}");
        }
        for json in ["{]", r#"{"Name":1}"#, "[]", "7", r#"{"List":{}}"#, r#"{"One":{"SomeTime":"5 parsecs"}}"#] {
            assert!(outer(json).unwrap_err().starts_with("Request decode failed: "), "{json}");
        }
        let deep = "[".repeat(100_000);
        assert!(outer(&deep).is_err());
    }

    #[test]
    fn the_real_bodies_pass() {
        let body =
            br#"{"id":"web1","name":"web","port":80,"check":{"http":"http://x/","interval":"10s","TIMEOUT":1000000000},
            "Weights":{"passing":3,"Warning":1},"tagged_addresses":{"lan":{"address":"1.2.3.4","PORT":1}}}"#;
        let got: ServiceRegistration = decode(body).unwrap();
        assert_eq!((got.id.as_str(), got.port, got.weights.unwrap().passing), ("web1", 80, 3));
        assert_eq!(got.tagged_addresses["lan"].port, 1);
        assert!(decode::<ServiceRegistration>(br#"{"Name":"x","Port":"80"}"#).is_err());
    }

    #[test]
    fn pretty_is_four_spaces_and_keeps_the_order() {
        let shown = pretty(br#"{"b":[1,"x"],"a":{},"c":0.5}"#);
        let want = "{\n    \"b\": [\n        1,\n        \"x\"\n    ],\n    \"a\": {},\n    \"c\": 0.5\n}\n";
        assert_eq!(std::str::from_utf8(&shown).unwrap(), want);
    }
}
