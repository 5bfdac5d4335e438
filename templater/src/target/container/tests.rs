use super::*;
use bollard::models::ContainerConfig;

fn mount(source: &str, destination: &str) -> Mount {
    Mount { source: source.into(), destination: destination.into() }
}

#[test]
fn paths_are_mapped_through_the_deepest_mount() {
    let mounts = [mount("/srv", "/data"), mount("/srv/lb", "/etc/haproxy"), mount("/srv/one.cfg", "/one.cfg")];
    let cases = [
        ("/srv/lb/haproxy.cfg", Some(("/etc/haproxy/haproxy.cfg", false))),
        ("/srv/x", Some(("/data/x", false))),
        ("/srv/one.cfg", Some(("/one.cfg", true))),
        ("/other", None),
    ];
    for (file, expected) in cases {
        let expected = expected.map(|(path, itself)| (PathBuf::from(path), itself));
        assert_eq!(inside(&mounts, Path::new(file)), expected, "{file}");
    }
    let host = outside(&mounts, Path::new("/etc/haproxy/haproxy.cfg"));
    assert_eq!(host, Some("/srv/lb/haproxy.cfg".into()));
    assert_eq!(outside(&mounts, Path::new("/etc/passwd")), None);
}

#[test]
fn our_own_container_is_known_by_its_hostname_file() {
    let id = "a".repeat(64);
    let line = format!("700 650 8:1 /var/lib/docker/containers/{id}/hostname /etc/hostname rw - ext4 /dev/sda1 rw");
    assert_eq!(own_id(&format!("1 2 0:3 / / rw - x x x\n{line}\n")), Some(id.as_str()));
    // A host sees its containers' files, but not at that place.
    let host = format!("5 4 0:9 / /var/lib/docker/containers/{id}/mounts/shm rw - tmpfs shm rw");
    assert_eq!(own_id(&host), None);
}

#[test]
fn a_container_is_a_user_if_its_program_and_file_fit() {
    let cases = [
        ("haproxy", "-W -f /etc/haproxy/haproxy.cfg", "any", true),
        ("haproxy", "-W -f haproxy.cfg", "any", true),
        ("haproxy", "-W -f /etc/haproxy", "any", true),
        ("haproxy", "-W -f /etc/other.cfg", "any", false),
        ("docker-entrypoint.sh", "haproxy -f /etc/haproxy/haproxy.cfg", "any", true),
        ("/start.sh", "", "haproxy:3", true),
        ("/start.sh", "", "any", false),
        ("templater", "--template haproxy.tmpl", "haproxy-with-templater", false),
        ("/opt/lb", "--exec haproxy.tmpl", "any", false),
        ("nginx", "-g daemon_off;", "any", false),
    ];
    for (path, args, image, expected) in cases {
        let details = ContainerInspectResponse {
            path: Some(path.into()),
            args: Some(args.split(' ').map(str::to_owned).collect()),
            config: Some(ContainerConfig {
                image: Some(image.into()),
                working_dir: Some("/etc/haproxy".into()),
                ..ContainerConfig::default()
            }),
            ..ContainerInspectResponse::default()
        };
        let found = recognise(
            Kind::HaProxy,
            details,
            vec![Seen { ours: "/srv/haproxy.cfg".into(), inside: "/etc/haproxy/haproxy.cfg".into(), is_mount: false }],
        );
        assert_eq!(found.is_some(), expected, "{path} {args} {image}");
    }
}
