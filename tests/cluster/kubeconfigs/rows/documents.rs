//! Contexts, and what a kubeconfig is written in.

use super::{Expected, SERVER, TOKEN, Table, one};

pub(super) fn rows(table: &mut Table) {
    use Expected::{Refused, Same};
    let two = "apiVersion: v1\nkind: Config\n\
        clusters:\n- {name: a, cluster: {server: 'https://a.example'}}\n- {name: b, cluster: {server: 'https://b.example'}}\n\
        users:\n- {name: a, user: {token: t0ken-written-here}}\n- {name: b, user: {username: b, password: passw0rd}}\n\
        contexts:\n- {name: a, context: {cluster: a, user: a}}\n- {name: b, context: {cluster: b, user: b, namespace: shop}}\n\
        - {name: c, context: {cluster: none, user: a}}\n- {name: d, context: {cluster: a, user: none}}\n- {name: e, context: {cluster: a}}\n";
    let current = format!("{two}current-context: b\n");
    table.add("the current context", current.clone(), Same);
    table
        .add("a context of our configuration", current.clone(), Same)
        .context = Some("a");
    table
        .add(
            "a missing context",
            current.clone(),
            Refused("its contexts: a b c d e"),
        )
        .context = Some("z");
    table
        .add(
            "a missing cluster",
            current.clone(),
            Refused("the cluster \"none\""),
        )
        .context = Some("c");
    table
        .add(
            "a missing user",
            current.clone(),
            Expected::Narrower("the user \"none\""),
        )
        .context = Some("d");
    table
        .add("a context without user", current.clone(), Same)
        .context = Some("e");
    table.add("no current context", two, Refused("no current-context"));
    table
        .add("a context without a current one", two, Same)
        .context = Some("a");
    let good = one(SERVER, TOKEN);
    table.add(
        "JSON",
        serde_json::to_string(&serde_saphyr::from_str::<serde_json::Value>(&good).unwrap())
            .unwrap(),
        Same,
    );
    table.add(
        "lines of Windows in the kubeconfig",
        good.replace('\n', "\r\n"),
        Same,
    );
    table.add("a byte order mark", format!("\u{feff}{good}"), Same);
    let utf16: Vec<u8> = format!("\u{feff}{good}")
        .encode_utf16()
        .flat_map(u16::to_le_bytes)
        .collect();
    table.add("UTF-16", utf16, Same);
    table.add(
        "no kind",
        good.replace("kind: Config\n", "")
            .replace("apiVersion: v1\n", ""),
        Same,
    );
    table.add(
        "another kind",
        good.replace("kind: Config", "kind: Secret"),
        Refused("kind Config"),
    );
    table.add(
        "another version",
        good.replace("apiVersion: v1\n", "apiVersion: v2\n"),
        Refused("apiVersion v1"),
    );
    table.add(
        "nulls",
        format!("{good}preferences: null\nextensions: null\n"),
        Same,
    );
    table.add(
        "comments and a start",
        format!("# made by a tool\n---\n{good}"),
        Same,
    );
    table.add(
        "a second document",
        format!("{good}---\nkind: Secret\n"),
        Same,
    );
    table.add(
        "an alias",
        good.replace("- name: c\n", "- name: &c c\n")
            .replace("cluster: c\n", "cluster: *c\n"),
        Same,
    );
    table.add("empty", "", Refused("no current-context"));
    table.add("text", "no kubeconfig", Refused("not a kubeconfig"));
    table.add("a list", "- a\n", Refused("not a kubeconfig"));
    table.add(
        "tabs",
        good.replace("    ", "\t"),
        Refused("not a kubeconfig"),
    );
    table.add(
        "a list where a text is",
        good.replace("current-context: x", "current-context: [x]"),
        Refused("not a kubeconfig"),
    );
    let duplicate = format!("{good}- no: list\n").replace("- no: list\n", "current-context: y\n");
    table.add("a field twice", duplicate, Refused("not a kubeconfig"));
    let double = good.replace(
        "users:\n",
        "- name: c\n  cluster: {server: 'https://second.example'}\nusers:\n",
    );
    table.add(
        "two clusters of one name",
        double,
        Refused("two clusters named c"),
    );
}
