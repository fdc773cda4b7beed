//! Addresses of API servers and of proxies.

use super::{Expected, SERVER, TOKEN, Table, one};

pub(super) fn servers(table: &mut Table) {
    use Expected::{Refused, Same};
    table.server("a prefix", "https://rancher.example/k8s/clusters/c-1", Same);
    table.server(
        "a prefix with a slash",
        "https://rancher.example/k8s/clusters/c-1/",
        Same,
    );
    table.server("a slash", "https://api.example/", Same);
    table.server("IPv4", "https://192.0.2.1:6443", Same);
    table.server("IPv6", "'https://[2001:db8::1]:6443'", Same);
    table.server("upper case", "HTTPS://api.example", Same);
    table.server(
        "no scheme",
        "api.example:6443",
        Expected::Narrower("not https"),
    );
    table.server("no scheme, a path", "api.example/k8s", Refused("not https"));
    table.server("empty", "''", Refused("no server"));
    table.server(
        "blanks",
        "' https://api.example'",
        Refused("not an https URL"),
    );
    table.server("no host", "https://", Refused("not an https URL"));
    let plain = Expected::Narrower("not https");
    table.server("http", "http://api.example", plain);
    let without = one("server: api.example:6443", TOKEN);
    table.add("no scheme, nothing about TLS", without, plain);
    table.add(
        "no server",
        one("tls-server-name: a", TOKEN),
        Refused("no server"),
    );
}

pub(super) fn proxies(table: &mut Table) {
    use Expected::{Refused, Same};
    let proxy = |url: &str| format!("proxy-url: {url}");
    table.cluster("an http proxy", &proxy("http://proxy.example:3128"), Same);
    table.cluster("its own port", &proxy("http://proxy.example"), Same);
    table.cluster("an https proxy", &proxy("https://proxy.example/"), Same);
    table.cluster("a socks5 proxy", &proxy("socks5://127.0.0.1:1080"), Same);
    table.cluster(
        "a proxy's password",
        &proxy("http://me:passw0rd@proxy.example:8080"),
        Same,
    );
    table.cluster("a proxy by IPv6", &proxy("'http://[::1]:3128'"), Same);
    table.cluster("an empty proxy", &proxy("''"), Same);
    table.cluster(
        "a proxy without scheme",
        &proxy("proxy.example:3128"),
        Refused("proxy-url"),
    );
    table.cluster(
        "another kind of proxy",
        &proxy("ftp://me:passw0rd@p.example"),
        Refused("proxy-url p.example"),
    );
    table.cluster(
        "socks5h",
        &proxy("socks5h://p.example"),
        Refused("proxy-url"),
    );
    let variables: [(&'static str, Vec<(&'static str, &'static str)>); 9] = [
        ("HTTPS_PROXY", vec![("HTTPS_PROXY", "http://p.example:1")]),
        ("https_proxy", vec![("https_proxy", "p.example:1")]),
        (
            "both cases",
            vec![
                ("HTTPS_PROXY", "http://a.example:1"),
                ("https_proxy", "http://b.example:1"),
            ],
        ),
        (
            "NO_PROXY names it",
            vec![
                ("HTTPS_PROXY", "p.example:1"),
                ("NO_PROXY", "x, api.example"),
            ],
        ),
        (
            "NO_PROXY names its domain",
            vec![("HTTPS_PROXY", "p.example:1"), ("no_proxy", ".example")],
        ),
        (
            "NO_PROXY names its port",
            vec![
                ("HTTPS_PROXY", "p.example:1"),
                ("NO_PROXY", "api.example:6443"),
            ],
        ),
        (
            "NO_PROXY names another port",
            vec![
                ("HTTPS_PROXY", "p.example:1"),
                ("NO_PROXY", "api.example:443"),
            ],
        ),
        (
            "NO_PROXY is all",
            vec![("HTTPS_PROXY", "p.example:1"), ("NO_PROXY", "*")],
        ),
        (
            "HTTP_PROXY and ALL_PROXY",
            vec![("HTTP_PROXY", "p.example:1"), ("ALL_PROXY", "p.example:2")],
        ),
    ];
    for (name, environment) in variables {
        table.add(name, one(SERVER, TOKEN), Same).environment = environment;
    }
    let both = vec![("HTTPS_PROXY", "http://other.example:1")];
    let content = one(&format!("{SERVER}\nproxy-url: http://p.example:2"), TOKEN);
    table
        .add("a proxy-url and HTTPS_PROXY", content, Same)
        .environment = both;
    let loopback = one("server: https://127.0.0.1:6443", TOKEN);
    let everywhere = vec![("HTTPS_PROXY", "http://p.example:1")];
    table
        .add("HTTPS_PROXY and a loopback address", loopback, Same)
        .environment = everywhere;
    let cidr = vec![
        ("HTTPS_PROXY", "http://p.example:1"),
        ("NO_PROXY", "10.0.0.0/8"),
    ];
    let private = one("server: https://10.1.2.3:6443", TOKEN);
    table
        .add("NO_PROXY is a network", private, Same)
        .environment = cidr;
}
