//! `/v1/agent/host` and `/v1/agent/version`: what this runs on, and what it is.

use std::{collections::HashMap, fs, path::Path};

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{Answer, App, Call, agent::VERSION, json as to_json};

pub(super) fn version(_: &App, _: &Call) -> Answer {
    Ok(to_json(&json!({"SHA": "", "BuildDate": "", "HumanVersion": VERSION, "FIPS": ""})))
}

pub(super) fn facts(_: &App, _: &Call) -> Answer {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let now = Timestamp::now();
    let uptime = uptime_seconds(&read("/proc/uptime"));
    let release = read("/etc/os-release");
    let release = pairs(&release, '=');
    let released = |key: &str| release.get(key).map_or("", |value| value.trim_matches('"'));
    let host = json!({
        "hostname": read("/proc/sys/kernel/hostname").trim(), "uptime": uptime,
        "bootTime": now.as_second().saturating_sub_unsigned(uptime), "os": std::env::consts::OS,
        "platform": released("ID"), "platformVersion": released("VERSION_ID"),
        "kernelVersion": read("/proc/sys/kernel/osrelease").trim(), "kernelArch": std::env::consts::ARCH,
        "hostid": read("/proc/sys/kernel/random/boot_id").trim(),
    });
    Ok(to_json(&json!({
        "Memory": memory(&read("/proc/meminfo")), "CPU": processors(&read("/proc/cpuinfo")), "Host": host,
        "Disk": disk(Path::new("/")), "CollectionTime": u64::try_from(now.as_nanosecond()).unwrap_or_default(),
        "Errors": Value::Null,
    })))
}

/// `KEY MARK VALUE` lines.
fn pairs(text: &str, mark: char) -> HashMap<&str, &str> {
    text.lines().filter_map(|line| line.split_once(mark)).map(|(key, value)| (key.trim(), value.trim())).collect()
}

fn uptime_seconds(text: &str) -> u64 {
    text.split(['.', ' ']).next().and_then(|seconds| seconds.parse().ok()).unwrap_or_default()
}

fn memory(meminfo: &str) -> Value {
    let fields = pairs(meminfo, ':');
    let bytes = |key: &str| {
        let kib = fields.get(key).and_then(|value| value.split(' ').next()?.parse::<u64>().ok());
        kib.unwrap_or_default() * 1024
    };
    let (total, available) = (bytes("MemTotal"), bytes("MemAvailable"));
    let used = total.saturating_sub(available);
    json!({
        "total": total, "available": available, "used": used, "usedPercent": percent(used, total),
        "free": bytes("MemFree"), "buffers": bytes("Buffers"), "cached": bytes("Cached"),
    })
}

/// Memory and disks are far below what a float holds exactly.
#[allow(clippy::cast_precision_loss)]
fn percent(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 * 100.0 / whole as f64 }
}

fn processors(cpuinfo: &str) -> Vec<Value> {
    let blocks = cpuinfo.split("\n\n").map(|block| pairs(block, ':')).filter(|block| block.contains_key("processor"));
    let one = |block: HashMap<&str, &str>| {
        let text = |key: &str| (*block.get(key).unwrap_or(&"")).to_owned();
        json!({
            "cpu": text("processor").parse::<u32>().unwrap_or_default(), "vendorId": text("vendor_id"),
            "family": text("cpu family"), "model": text("model"), "modelName": text("model name"),
            "mhz": text("cpu MHz").parse::<f64>().unwrap_or_default(),
        })
    };
    blocks.map(one).collect()
}

fn disk(path: &Path) -> Value {
    let Ok(disk) = nix::sys::statvfs::statvfs(path) else { return Value::Null };
    let blocks = |count: u64| count.saturating_mul(disk.fragment_size());
    let (total, free) = (blocks(disk.blocks()), blocks(disk.blocks_available()));
    let used = total.saturating_sub(free);
    json!({"path": path, "total": total, "free": free, "used": used, "usedPercent": percent(used, total)})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_files_are_read() {
        assert_eq!(uptime_seconds("1234.56 2000.00\n"), 1234);
        assert_eq!(uptime_seconds(""), 0);
        let shown = memory("MemTotal:        1000 kB\nMemFree:  100 kB\nMemAvailable:  250 kB\nHuge: x\n");
        assert_eq!((&shown["total"], &shown["used"]), (&json!(1_024_000), &json!(768_000)));
        assert_eq!((&shown["usedPercent"], &shown["cached"]), (&json!(75.0), &json!(0)));
        assert_eq!(memory("")["usedPercent"], json!(0.0));
        let shown =
            processors("processor\t: 0\nmodel name\t: A: b\ncpu MHz\t: 2.5\n\nprocessor\t: 1\n\nHardware\t: x\n");
        assert_eq!((shown.len(), &shown[0]["modelName"], &shown[0]["mhz"]), (2, &json!("A: b"), &json!(2.5)));
        assert!(disk(Path::new("/"))["total"].as_u64().unwrap() > 0);
    }
}
