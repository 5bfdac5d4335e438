//! The stories: each is a module, and tells what a user does with the whole product and what must come of it.

mod access_control;
mod bad_input;
mod clients;
mod connections;
mod dns_clients;
mod elastic;
mod examples;
mod forwarding;
mod front;
mod hosts;
mod hub;
mod images;
mod joining;
mod links;
mod networks;
mod overlay_attach;
mod overlay_docker;
mod overlay_two_hosts;
mod packages_debian;
mod readme;
mod register_to_reload;
mod replica;
mod resolver_only;
mod restart;
mod sidecar;
mod soak;
mod stage;
mod templater_alone;
mod under_load;
mod versions;
mod web_ui;
mod whole_chaos;

use std::process::ExitCode;

use flotilla_tests::{
    bed::Bed,
    needs::{Client, Need},
    story::{Story, run},
};

fn main() -> ExitCode {
    run(vec![
        Story::new("register_to_reload", stage::needs(), register_to_reload::story),
        Story::new("register_to_reload_internal", stage::needs(), register_to_reload::internal),
        Story::new("register_to_reload_healthcheck", stage::needs(), register_to_reload::healthcheck),
        Story::new("sidecar", sidecar::needs(), sidecar::story),
        Story::new("restart_registrar_killed", stage::needs(), restart::registrar_killed),
        Story::new("restart_burst", stage::needs(), restart::burst),
        Story::new("restart_dockerd", stage::needs(), restart::dockerd_restarted),
        Story::new("restart_registry_empty", stage::needs(), restart::registry_restarted_empty),
        Story::new("restart_registry_killed_amid_writes", [], restart::registry_killed_amid_writes),
        Story::new("templater_alone", templater_alone::needs(), templater_alone::process),
        Story::new("templater_named_containers", stage::needs(), templater_alone::named),
        Story::new("under_load_replaced", under_load::needs(), under_load::replaced),
        Story::new("under_load_released", under_load::needs(), under_load::released),
        Story::new("templater_alone_container", stage::needs(), templater_alone::container),
        Story::new("bad_input_commands", [], bad_input::commands),
        Story::new("bad_input_templates", [], bad_input::templates),
        Story::new("bad_input_strangers", [Need::Program("dig")], bad_input::strangers),
        Story::new("bad_input_registry_unreachable", stage::needs(), bad_input::registry_unreachable),
        Story::new("bad_input_docker_unreachable", stage::needs(), bad_input::docker_unreachable),
        Story::new("bad_input_port_taken", [], bad_input::port_taken),
        Story::new("connections_registry_over_tls", stage::needs(), connections::registry_over_tls),
        Story::new("connections_registry_serves_tls", stage::needs(), connections::registry_serves_tls),
        Story::new("connections_token_file", stage::needs(), connections::token_file),
        Story::new("access_control", stage::needs(), access_control::story),
        Story::new("connections_docker_over_tls", stage::needs(), connections::docker_over_tcp_and_tls),
        Story::new("connections_podman", connections::host_needs(&["podman"]), connections::podman),
        Story::new("connections_swarm", connections::host_needs(&[]), connections::swarm),
        Story::new("resolver_only", resolver_only::needs(&["dnsmasq"]), resolver_only::story),
        Story::new("versions_side_by_side", resolver_only::needs(&[]), versions::side_by_side),
        Story::new("versions_published", resolver_only::needs(&[]), versions::published),
        Story::new("versions_on_networks", resolver_only::needs(&[]), versions::on_networks),
        Story::new("versions_on_two_hosts", resolver_only::needs(&["dnsmasq", "nsenter"]), versions::on_two_hosts),
        Story::new("dns_clients_dnsmasq", dns_clients::needs("dnsmasq"), dns_clients::dnsmasq),
        Story::new("dns_clients_unbound", dns_clients::needs("unbound"), dns_clients::unbound),
        Story::new("dns_clients_haproxy", dns_clients::needs("haproxy"), dns_clients::haproxy),
        Story::new("dns_clients_nginx", dns_clients::needs("nginx"), dns_clients::nginx),
        Story::new("forwarding", forwarding::needs(), forwarding::story),
        Story::new("examples_by_host", stage::needs(), examples::by_host),
        Story::new("examples_sticky", examples::needs("haproxy"), examples::sticky),
        Story::new("examples_release", ["haproxy", "nginx"].map(Need::Program), examples::release),
        Story::new("examples_upstreams", examples::needs("nginx"), examples::upstreams),
        Story::new("examples_virtual_hosts", examples::needs("nginx"), examples::virtual_hosts),
        Story::new("examples_dnsmasq", [Need::Program("dnsmasq"), Need::Program("dig")], examples::dnsmasq),
        Story::new("examples_prometheus", examples::needs("prometheus"), examples::prometheus),
        Story::new("examples_monitoring", ["prometheus", "promtool"].map(Need::Program), examples::monitoring),
        Story::new("examples_caddy", examples::needs("caddy"), examples::caddy),
        Story::new("resolver_in_a_container", resolver_only::needs(&[]), resolver_only::in_a_container),
        Story::new("hosts_bed", Bed::NEEDS, hosts::bed::story),
        Story::new("hosts_host_dies", hosts::needs(&["haproxy"]), hosts::dies::story),
        Story::new("hosts_etcd_gone", hosts::needs(&["dnsperf"]), hosts::etcd_gone::story),
        Story::new("hosts_new_address", hosts::needs(&[]), hosts::moves::story),
        Story::new("hosts_forgotten_lock", hosts::needs(&[]), hosts::forgotten::story),
        Story::new("hosts_replaced", hosts::needs(&[]), hosts::replaced::story),
        Story::new("hosts_clocks", hosts::needs(&["cc"]), hosts::clocks::story),
        Story::new("hosts_hub", hosts::needs(&[]), hosts::hub::story),
        Story::new("hosts_chaos", hosts::needs(&[]), hosts::chaos::story).within(hosts::chaos::limit()),
        Story::new("overlay_attach", overlay_attach::needs(), overlay_attach::story),
        Story::new("overlay_docker_driver", overlay_docker::needs(), overlay_docker::driver),
        Story::new("overlay_two_hosts_driver", overlay_two_hosts::needs(), overlay_two_hosts::driver)
            .within(overlay_two_hosts::STORY_LIMIT),
        Story::new("overlay_two_hosts_names", overlay_two_hosts::needs(), overlay_two_hosts::names)
            .within(overlay_two_hosts::STORY_LIMIT),
        Story::new("examples_links_circular", resolver_only::needs(&[]), links::circular),
        Story::new("examples_links_files", stage::needs(), links::files),
        Story::new("examples_front", front::needs(), front::story),
        Story::new("examples_elastic", readme::needs(), elastic::story),
        Story::new("examples_joining", readme::needs(), joining::story),
        Story::new("examples_networks", readme::needs(), networks::story),
        Story::new("whole_chaos", whole_chaos::needs(), whole_chaos::story).within(whole_chaos::limit()),
        Story::new("soak", soak::needs(), soak::story).within(soak::limit()),
        Story::new("hub", sidecar::needs(), hub::story),
        Story::new("hub_overlay", hub::overlay_needs(), hub::overlay),
        Story::new("replica", replica::needs(), replica::story),
        Story::new("images", images::needs(), images::story),
        Story::new("packages_debian", packages_debian::needs(), packages_debian::story),
        Story::new("packages_debian_overlay", packages_debian::overlay_needs(), packages_debian::overlay),
        Story::new("web_ui", web_ui::needs(), web_ui::story),
        Story::new("clients_go", clients::go_needs(Client::Go), clients::go),
        Story::new("clients_python", [Need::Client(Client::Python)], clients::python),
        Story::new("clients_node", clients::node_needs(), clients::node),
        Story::new("clients_prometheus", clients::go_needs(Client::Prometheus), clients::prometheus),
    ])
}
