//! The last good data on disk: with them a host's proxies are configured before its registry is there.
//!
//! They may hold what the registry gives only to who has a token, so nobody but their owner reads them.

use std::{
    collections::BTreeSet,
    fs::File,
    io::{self, Read as _},
    path::Path,
    sync::Arc,
};

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::{
    temp::replace,
    values::{Answer, Dependency, Values},
};

/// More is not read: it is none of ours.
const MAX_BYTES: u64 = 512 << 20;

/// Answers, and when they were the newest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Kept {
    #[serde(serialize_with = "as_text", deserialize_with = "of_text")]
    pub(crate) as_of: Timestamp,
    pub(crate) answers: Vec<(Arc<Dependency>, Arc<Answer>)>,
}

impl Kept {
    /// What of `values` is in `used`; as old as `last` if that has the same, else as of now.
    pub(crate) fn new(values: &Values, used: &BTreeSet<Arc<Dependency>>, last: Option<&Self>) -> Self {
        let answers: Vec<_> = used.iter().filter_map(|d| Some((d.clone(), values.get(d)?.clone()))).collect();
        let same = last.filter(|last| {
            let equal =
                |(a, b): (&(_, Arc<Answer>), &(_, Arc<Answer>))| a.0 == b.0 && (Arc::ptr_eq(&a.1, &b.1) || a.1 == b.1);
            last.answers.len() == answers.len() && last.answers.iter().zip(&answers).all(equal)
        });
        Self { as_of: same.map_or_else(Timestamp::now, |last| last.as_of), answers }
    }

    /// Makes this the content of `path`, but for the files, which are here anyway.
    pub(crate) fn save(&self, path: &Path) -> io::Result<()> {
        let from_registry = |(d, _): &&(Arc<Dependency>, _)| !matches!(**d, Dependency::File { .. });
        let answers = self.answers.iter().filter(from_registry).cloned().collect();
        replace(path, &Self { as_of: self.as_of, answers }.encode()?)
    }

    /// What `path` holds, if it can be used: else it is as if there were none.
    pub(crate) fn load(path: &Path) -> Option<Self> {
        let mut bytes = Vec::new();
        File::open(path).ok()?.take(MAX_BYTES).read_to_end(&mut bytes).ok()?;
        Self::decode(&bytes)
    }

    pub(crate) fn encode(&self) -> io::Result<Vec<u8>> {
        Ok(serde_json::to_vec(self)?)
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok()
    }

    /// The answers.
    pub(crate) fn values(&self) -> Values {
        self.answers.iter().cloned().collect()
    }
}

fn as_text<S: Serializer>(time: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(time)
}

fn of_text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Timestamp, D::Error> {
    String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::values::tests::entry;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn data_come_back_as_they_were_and_are_nobodys_business() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(".web.data");
        let answers = [
            (Dependency::service("web", true), Answer::instances(vec![entry("w1 10.0.0.1:80 warning a")])),
            (Dependency::service("evil", true), Answer::instances(vec![entry("e; 10.0.0.1:80 draining")])),
            (Dependency::Services.in_datacenter(Some("dc2".into())), Answer::services([("web".into(), vec![])].into())),
            (Dependency::Key("none".into()), Answer::key(None)),
            (Dependency::NodeHealth, Answer::node_health(vec![])),
        ];
        let values: Values = answers.into_iter().map(|(d, a)| (Arc::new(d), Arc::new(a))).collect();
        let file = Arc::new(Dependency::File { root: "/".into(), path: "etc/passwd".into() });
        let mut all = values.clone();
        all.insert(file, Arc::new(Answer::File(Ok("text".into()))));
        let used = all.keys().cloned().collect();
        let kept = Kept::new(&all, &used, None);
        kept.save(&path).unwrap();
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(Kept::load(&path).unwrap().values(), values);
        assert_eq!(Kept::load(&path).unwrap().as_of, kept.as_of);
        std::fs::write(&path, "{\"as_of\":").unwrap();
        assert_eq!(Kept::load(&path), None);
    }

    #[test]
    fn the_same_data_are_as_old_as_they_were() {
        let key = |value: &str| -> Values {
            [(Arc::new(Dependency::Key("k".into())), Arc::new(Answer::Key(Some(value.into()))))].into()
        };
        let used = key("1").keys().cloned().collect();
        let old = Kept { as_of: Timestamp::UNIX_EPOCH, ..Kept::new(&key("1"), &used, None) };
        assert_eq!(Kept::new(&key("1"), &used, Some(&old)).as_of, old.as_of);
        assert_ne!(Kept::new(&key("2"), &used, Some(&old)).as_of, old.as_of);
        assert_ne!(Kept::new(&key("1"), &BTreeSet::new(), Some(&old)).as_of, old.as_of);
    }
}
