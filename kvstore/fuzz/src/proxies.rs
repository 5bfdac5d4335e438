//! Configurations of proxies and what their programs say, as an operator has written and shows them: two paths, a line each,
//! then the text. None panics, no pattern takes long, and a part is found in its main file where that includes it.

use std::path::{Path, PathBuf};

use templater::target::{Kind, haproxy, nginx, runtime};

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    [
        "/etc/nginx/conf.d/a.conf\n/tmp/staged\nevents {}\nhttp {\n  include mime.types;\n  include conf.d/*.conf; # all\n}\n",
        "/etc/nginx/conf.d/a[1.conf\n/tmp/staged\nhttp {\n  include \"conf.d/a[1-9]*?.conf\";\n  #include no;\n}\n",
        "/etc/nginx/x\n/y\nserver {\n  listen 80;\n}\n",
        "/etc/haproxy/haproxy.cfg\n/tmp/x.cfg\nglobal\n  stats socket /run/haproxy.sock mode 600 level admin\nbackend web\n  server a 10.0.0.1:80 check\n",
        "/etc/haproxy\n/tmp/x.cfg\nhaproxy -W -f /etc/haproxy -f b.cfg -- c.cfg d.cfg\n",
        "/a\n/b\nnginx: master process /usr/sbin/nginx -p /srv -c conf/x.conf -e stderr\n",
        "/a\n/b\n[ALERT] (7) : config : parsing [/tmp/x.cfg:3] : unknown keyword 'x'\nnginx: [emerg] unexpected end of file in /tmp/x:9\n",
    ]
    .map(|text| text.as_bytes().to_vec())
    .into()
}

pub(crate) fn check(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let mut parts = text.splitn(3, '\n');
    let (Some(destination), Some(staged), Some(text)) = (parts.next(), parts.next(), parts.next()) else { return };
    let (destination, staged, directory) = (Path::new(destination), Path::new(staged), Path::new("/etc/nginx"));
    Kind::recognise(destination, text);
    nginx::is_main(text);
    assert!(nginx::includes(text, directory).iter().all(|pattern| pattern.is_absolute()));
    let nothing = |_: &Path| Vec::new();
    if let Some(whole) = nginx::with_staged(text, directory, &[(destination, staged)], nothing) {
        assert!(nginx::includes(text, directory).iter().any(|pattern| nginx::matches(pattern, destination)));
        assert_eq!(whole.lines().count(), text.lines().count());
    }
    assert!(nginx::wrapper(&[staged], text).starts_with("events {}\n"));
    let words: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
    let start = nginx::started(&words, directory);
    assert!(start.main.is_absolute() && start.prefix.as_deref().is_none_or(Path::is_absolute));
    let configured = haproxy::configured(&words, directory);
    let files = haproxy::with_staged(&configured, &[(destination, staged)], nothing);
    assert!(configured.iter().all(|path| path.is_absolute()) && !files.is_empty());
    if configured.contains(&PathBuf::from(destination)) {
        assert!(files.contains(&PathBuf::from(staged)));
    }
    assert!(haproxy::complaints(text).len() <= text.len() && nginx::complaints(text).len() <= text.len());
    runtime::admin_socket(text);
}
