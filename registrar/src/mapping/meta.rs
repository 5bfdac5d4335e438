//! The metadata of an instance: what `SERVICE_*` says besides the settings, and our marks; within a genuine Consul's limits.

use std::collections::BTreeMap;

use kvstore_client::types::CheckRegistration;

use super::Policy;
use crate::{
    container::Container,
    plan::{META_BOOT, META_CHECKS, META_CONTAINER, META_MARK},
    variables::Variables,
};

/// Limits of a genuine Consul for metadata.
const MAX_META_PAIRS: usize = 64;
const MAX_META_KEY_BYTES: usize = 128;
const MAX_META_VALUE_BYTES: usize = 512;

pub(super) const COMPOSE_SERVICE: &str = "com.docker.compose.service";
pub(super) const SWARM_SERVICE: &str = "com.docker.swarm.service.name";
/// Labels of Docker's own tools, and what they are called in the metadata.
const TOOLS: [(&str, &str); 6] = [
    ("com.docker.compose.project", "compose-project"),
    (COMPOSE_SERVICE, "compose-service"),
    ("com.docker.stack.namespace", "swarm-stack"),
    (SWARM_SERVICE, "swarm-service"),
    ("com.docker.swarm.task.name", "swarm-task"),
    ("com.docker.swarm.node.id", "swarm-node"),
];

/// Keys that are settings, not facts for others.
fn is_setting(key: &str) -> bool {
    ["name", "id", "tags", "ignore", "ports", "network", "weight", "warning_weight"].contains(&key)
        || key.starts_with("check_")
}

pub(super) fn meta(
    container: &Container,
    policy: &Policy,
    variables: &Variables<'_>,
    extra: &[(&'static str, String)],
    probes: &[CheckRegistration],
    warnings: &mut Vec<String>,
) -> BTreeMap<String, String> {
    let mut meta: BTreeMap<String, String> = extra.iter().map(|(k, v)| ((*k).into(), v.clone())).collect();
    meta.extend(marks(container, policy));
    if !probes.is_empty() {
        meta.insert(META_CHECKS.into(), fingerprint(probes));
    }
    for (label, key) in TOOLS {
        if let Some(value) = container.labels.get(label) {
            meta.insert(key.into(), meta_value(key, value, warnings));
        }
    }
    if let (true, None, Some(tag)) = (policy.choices.version_from_tag, variables.get("version"), tag(&container.image))
    {
        meta.insert("version".into(), meta_value("version", tag, warnings));
    }
    for (key, value) in variables.iter().filter(|(key, _)| !is_setting(key)) {
        let key = meta_key(key, warnings);
        if key.is_empty() || meta.contains_key(&key) {
            warnings.push(format!("SERVICE_{} is left out of the metadata: the key is taken", key.to_uppercase()));
        } else if meta.len() == MAX_META_PAIRS {
            warnings.push(format!("only {MAX_META_PAIRS} pairs of metadata are possible; {key} is left out"));
        } else {
            let value = meta_value(&key, value, warnings);
            meta.insert(key, value);
        }
    }
    meta
}

/// Whose an instance is, and about what.
pub(super) fn marks(container: &Container, policy: &Policy) -> BTreeMap<String, String> {
    let mark = [(META_MARK.into(), policy.mark.to_string()), (META_CONTAINER.into(), container.short_id().into())];
    mark.into_iter().chain(policy.boot.clone().map(|boot| (META_BOOT.into(), boot))).collect()
}

/// The version of a container of which nothing is registered.
pub(crate) fn named_version(container: &Container, policy: &Policy) -> Option<String> {
    let variables = Variables::of(container, None);
    let by_tag = || tag(&container.image).filter(|_| policy.choices.version_from_tag);
    variables.get("version").or_else(by_tag).map(str::to_owned)
}

/// The version that an image's name tells: `latest` and a digest are none.
fn tag(image: &str) -> Option<&str> {
    let image = image.split('@').next()?;
    let (_, tag) = image.rsplit('/').next()?.split_once(':')?;
    (!tag.is_empty() && tag != "latest" && !image.starts_with("sha256:")).then_some(tag)
}

fn meta_key(key: &str, warnings: &mut Vec<String>) -> String {
    let good = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    let fixed: String = key.chars().map(|c| if good(c) { c } else { '_' }).take(MAX_META_KEY_BYTES).collect();
    if fixed != key {
        warnings
            .push(format!("metadata key {key:?} has characters that are not allowed or is too long; it is {fixed:?}"));
    }
    fixed
}

fn meta_value(key: &str, value: &str, warnings: &mut Vec<String>) -> String {
    let mut fixed: String = value.chars().filter(|c| !c.is_control()).collect();
    if fixed.len() > MAX_META_VALUE_BYTES {
        fixed.truncate(fixed.floor_char_boundary(MAX_META_VALUE_BYTES));
    }
    if fixed != value {
        warnings.push(format!("the value of metadata {key} has control characters or is too long; it was cut"));
    }
    fixed
}

/// The registry does not tell how it probes, so this says whether the checks that it has are these.
fn fingerprint(checks: &[CheckRegistration]) -> String {
    let text = serde_json::to_vec(checks).expect("API types have string keys only");
    format!("{:016x}", fnv(&text))
}

/// FNV-1a, which gives the same in every version of this program.
pub(crate) fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}
