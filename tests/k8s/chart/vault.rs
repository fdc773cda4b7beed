//! Vault's API: the listener, the Service's port, the policy, the Secret and the configuration agree.

use serde_json::json;

use super::settings::{configuration, validate};
use super::{only, refused, render, set, values};

#[test]
fn clients_of_vault_reach_the_listener_that_the_values_ask_for() {
    let mut other = values("vault");
    other.extend(["--set", "vault.port=8201", "--set", "vault.audience="].map(str::to_owned));
    for (values, port, logins) in [(values("vault"), 8200, true), (other, 8201, false)] {
        let objects = render("trust", &values);
        let service = objects.iter().find(|object| {
            object["kind"] == "Service" && object["metadata"]["name"] == "rb-rootbridge"
        });
        let ports = service.unwrap()["spec"]["ports"].as_array().unwrap();
        let open = json!({ "name": "https-vault", "port": port, "targetPort": "vault" });
        assert!(ports.contains(&open), "{ports:?}");
        let template = &only(&objects, "StatefulSet")["spec"]["template"];
        let container = &template["spec"]["containers"][0];
        let ports = container["ports"].as_array().unwrap();
        let listens = json!({ "name": "vault", "containerPort": port });
        assert!(ports.contains(&listens), "{ports:?}");
        let ingress = &only(&objects, "NetworkPolicy")["spec"]["ingress"];
        let lets_in =
            json!({ "ports": [{ "port": "vault" }], "from": [{ "namespaceSelector": {} }] });
        assert!(ingress.as_array().unwrap().contains(&lets_in), "{ingress}");
        let mount = json!({
            "name": "vault-token-key", "mountPath": "/var/run/secrets/rootbridge/vault",
            "readOnly": true,
        });
        let mounts = container["volumeMounts"].as_array().unwrap();
        assert!(mounts.contains(&mount), "{mounts:?}");

        let text = configuration(&values);
        validate(&text).unwrap_or_else(|message| panic!("{message}\n{text}"));
        let read: toml::Table = text.parse().unwrap();
        let listener = read["listeners"]["vault"].as_table().unwrap();
        let address = format!("0.0.0.0:{port}");
        assert_eq!(listener["address"].as_str(), Some(address.as_str()));
        assert_eq!(listener["operators"][0].as_str(), Some("spire"));
        assert_eq!(listener.contains_key("default_cluster"), logins, "{text}");
        let vault = &read["vault"];
        let file = "/var/run/secrets/rootbridge/vault/key";
        assert_eq!(vault["token_key_file"].as_str(), Some(file));
        for mount in ["pki", "spire"] {
            let authority = vault["mount"][mount]["authority"].as_str();
            assert_eq!(authority, Some("mesh.example"));
        }
        if logins {
            let audience = read["clusters"]["local"]["audiences"]["vault"].as_str();
            assert_eq!(audience, Some("rootbridge"));
        }
    }
}

/// Off, nothing of it is there; on, several servers need a key that they share.
#[test]
fn several_servers_share_the_key_of_tokens() {
    let text = configuration(&values("module"));
    assert!(!text.contains("vault"), "{text}");
    let mut several = values("postgres");
    several.extend(set(&["vault.enabled=true", "hsm.mode=module"]));
    let why = refused(&several);
    assert!(why.contains("vault.tokenKey.secretName"), "{why}");
}
