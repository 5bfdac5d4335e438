//! HAProxy and nginx of this machine, asked about new files.

use super::{group::Group, *};

const HAPROXY: &str = "global\n  maxconn 10\ndefaults\n  mode http\n  timeout connect 1s\n  timeout client 1s\n  timeout server 1s\nfrontend f\n  bind 127.0.0.1:1\n";

/// Skips aloud where `program` is missing.
fn has(program: &str) -> bool {
    let found = crate::target::process::which(program).is_some();
    if !found {
        eprintln!("SKIP: {program} is not installed");
    }
    found
}

#[tokio::test]
async fn the_real_haproxy_is_asked_about_its_file() {
    let mut case = Case::new();
    case.file.destination = case.at("haproxy.cfg");
    if !has("haproxy") {
        return;
    }
    assert_eq!(case.put(HAPROXY).await.unwrap(), Put::Written);
    let error = case.put(&format!("{HAPROXY}  bogus\n")).await.unwrap_err();
    assert!(error.to_string().starts_with("HAProxy refused the new "), "{error}");
    assert!(error.report("").contains("unknown keyword 'bogus'"), "{}", error.report(""));
    assert_eq!(case.live(), HAPROXY);
}

#[tokio::test]
async fn the_real_nginx_is_asked_about_a_whole_file_and_about_a_part() {
    let mut case = Case::new();
    if !has("nginx") {
        return;
    }
    case.file.destination = case.at("nginx.conf");
    let pid = format!("pid {};\n", case.at("nginx.pid").display());
    assert_eq!(case.put(&format!("{pid}events {{}}\n")).await.unwrap(), Put::Written);
    let error = case.put(&format!("{pid}events {{}}\nbogus;\n")).await.unwrap_err();
    assert!(error.report("").contains("unknown directive \"bogus\""), "{}", error.report(""));

    case.file.destination = case.at("web.conf");
    let upstream = |server: &str| format!("upstream web {{\n  server {server};\n}}\n");
    assert_eq!(case.put(&upstream("10.0.0.1:80")).await.unwrap(), Put::Written);
    let error = case.put(&upstream("10.0.0.1:99999")).await.unwrap_err();
    assert!(error.report("").contains("invalid port"), "{}", error.report(""));
    assert_eq!(case.live(), upstream("10.0.0.1:80"));
}

#[tokio::test]
async fn the_real_nginx_is_asked_about_a_main_file_with_its_parts() {
    let group = Group::new();
    if !has("nginx") {
        return;
    }
    let mut files = group.files.clone();
    files[0].destination = group.case.at("nginx.conf");
    files[1].destination = group.case.at("conf.d/web.conf");
    let main = format!(
        "pid {}/nginx.pid;\nevents {{}}\nhttp {{\n include conf.d/*.conf;\n server {{ location / {{ proxy_pass http://web; }} }}\n}}\n",
        group.case.dir.path().display()
    );
    let put = async |texts: [&str; 2]| {
        let one = |(file, text): (&FileSpec, &str)| Rendered { file: file.clone(), text: text.into() };
        group.case.output().put(files.iter().zip(texts).map(one).collect()).await
    };
    let upstream = |name: &str| format!("upstream {name} {{\n  server 10.0.0.1:80;\n}}\n");
    // Either alone would be refused: nobody knows a host of that name.
    assert_eq!(put([&main, &upstream("web")]).await.unwrap(), Put::Written);
    let error = put([&main.replace("http://web", "http://api.invalid"), &upstream("other")]).await.unwrap_err();
    assert!(error.report("").contains("host not found in upstream"), "{}", error.report(""));
    assert!(put([&main.replace("http://web", "http://api"), &upstream("api")]).await.is_ok());
}
