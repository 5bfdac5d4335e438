//! On which line of a text a part of it is: the text is read up to that part, and reading fails there on purpose.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::Format;

/// One step from the top of a document to a part of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Key(String),
    Item(usize),
}

/// Where `path` leads in `text`; `None` if nothing is there, or in a format whose places are not known.
pub(super) fn line_of(text: &str, format: Format, path: &[Step]) -> Option<usize> {
    let seed = Locate(path);
    match format {
        Format::Json => seed.deserialize(&mut serde_json::Deserializer::from_str(text)).err().map(|e| e.line()),
        Format::Yaml => {
            let found = seed.deserialize(serde_yaml::Deserializer::from_str(text)).err();
            found.and_then(|e| e.location()).map(|at| at.line())
        }
        Format::Hcl => None,
    }
}

/// Reads up to a part of a document and fails there: the error's line is the part's.
struct Locate<'p>(&'p [Step]);

impl<'de> DeserializeSeed<'de> for Locate<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Locate<'_> {
    type Value = ();

    // Every visit that is not overridden below fails: that is how the last step of a path is found.
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the place looked for")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Some((Step::Key(wanted), rest)) = self.0.split_first() else {
            return Err(A::Error::custom("here"));
        };
        let last = rest.is_empty();
        while let Some(found) = map.next_key_seed(KeyIs { wanted, last })? {
            if found {
                return map.next_value_seed(Locate(rest));
            }
            map.next_value::<IgnoredAny>()?;
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let Some((Step::Item(n), rest)) = self.0.split_first() else {
            return Err(A::Error::custom("here"));
        };
        for _ in 0..*n {
            seq.next_element::<IgnoredAny>()?;
        }
        seq.next_element_seed(Locate(rest)).map(|_| ())
    }
}

/// Whether a key is the wanted one; fails on it if it is the last of a path.
struct KeyIs<'p> {
    wanted: &'p str,
    last: bool,
}

impl<'de> DeserializeSeed<'de> for KeyIs<'_> {
    type Value = bool;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for KeyIs<'_> {
    type Value = bool;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }
    fn visit_str<E: Error>(self, key: &str) -> Result<bool, E> {
        let found = key == self.wanted;
        if found && self.last { Err(E::custom("here")) } else { Ok(found) }
    }
}
