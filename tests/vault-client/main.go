// Command vault-client calls a server as programs with Vault's own Go client do, and those with
// OpenBao's. It reads a JSON document and prints one; tests/vault/clients.rs calls it.
package main

import (
	"encoding/json"
	"fmt"
	"os"

	vault "github.com/hashicorp/vault/api"
	openbao "github.com/openbao/openbao/api/v2"
)

type input struct {
	Library   string `json:"library"`
	Address   string `json:"address"`
	Roots     string `json:"roots"`
	RoleID    string `json:"role_id"`
	SecretID  string `json:"secret_id"`
	Namespace string `json:"namespace"`
	Mount     string `json:"mount"`
	CSR       string `json:"csr"`
	CACSR     string `json:"ca_csr"`
}

type output struct {
	Sealed      bool           `json:"sealed"`
	Initialized bool           `json:"initialized"`
	LoginLease  int            `json:"login_lease"`
	Renewable   bool           `json:"renewable"`
	TTL         float64        `json:"ttl"`
	Renewed     int            `json:"renewed"`
	Mounts      []string       `json:"mounts"`
	Role        map[string]any `json:"role"`
	Warnings    []string       `json:"warnings"`
	Roles       []any          `json:"roles"`
	Signed      map[string]any `json:"signed"`
	SignedCA    map[string]any `json:"signed_ca"`
	CA          map[string]any `json:"ca"`
	Refused     string         `json:"refused"`
	AfterRevoke string         `json:"after_revoke"`
}

func main() {
	var in input
	if err := json.NewDecoder(os.Stdin).Decode(&in); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	call := withVault
	if in.Library == "openbao" {
		call = withOpenBao
	}
	out, err := call(in)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	if err := json.NewEncoder(os.Stdout).Encode(out); err != nil {
		os.Exit(1)
	}
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func withVault(in input) (*output, error) {
	config := vault.DefaultConfig()
	config.Address = in.Address
	if err := config.ConfigureTLS(&vault.TLSConfig{CACert: in.Roots}); err != nil {
		return nil, err
	}
	client, err := vault.NewClient(config)
	if err != nil {
		return nil, err
	}
	client.SetNamespace(in.Namespace)
	out := &output{}
	health, err := client.Sys().Health()
	if err != nil {
		return nil, fmt.Errorf("health: %w", err)
	}
	out.Sealed, out.Initialized = health.Sealed, health.Initialized
	login, err := client.Logical().Write("auth/approle/login", map[string]any{"role_id": in.RoleID, "secret_id": in.SecretID})
	if err != nil {
		return nil, fmt.Errorf("login: %w", err)
	}
	out.LoginLease = login.Auth.LeaseDuration
	client.SetToken(login.Auth.ClientToken)
	self, err := client.Auth().Token().LookupSelf()
	if err != nil {
		return nil, fmt.Errorf("lookup-self: %w", err)
	}
	if out.Renewable, err = self.TokenIsRenewable(); err != nil {
		return nil, err
	}
	ttl, err := self.TokenTTL()
	if err != nil {
		return nil, err
	}
	out.TTL = ttl.Seconds()
	renewed, err := client.Auth().Token().RenewSelf(600)
	if err != nil {
		return nil, fmt.Errorf("renew-self: %w", err)
	}
	out.Renewed = renewed.Auth.LeaseDuration
	mounts, err := client.Sys().ListMounts()
	if err != nil {
		return nil, fmt.Errorf("mounts: %w", err)
	}
	for name, mount := range mounts {
		out.Mounts = append(out.Mounts, name+" "+mount.Type)
	}
	err = client.Sys().Mount(in.Mount, &vault.MountInput{Type: "pki"})
	if err != nil {
		return nil, fmt.Errorf("mount: %w", err)
	}
	err = client.Sys().TuneMount(in.Mount, vault.MountConfigInput{MaxLeaseTTL: "87600h"})
	if err != nil {
		return nil, fmt.Errorf("tune: %w", err)
	}
	role, err := client.Logical().Write(in.Mount+"/roles/web", map[string]any{"allow_any_name": true, "max_ttl": "9000h"})
	if err != nil {
		return nil, fmt.Errorf("role: %w", err)
	}
	out.Role, out.Warnings = role.Data, role.Warnings
	roles, err := client.Logical().List(in.Mount + "/roles")
	if err != nil {
		return nil, fmt.Errorf("roles: %w", err)
	}
	out.Roles, _ = roles.Data["keys"].([]any)
	ca, err := client.Logical().Read(in.Mount + "/cert/ca")
	if err != nil {
		return nil, fmt.Errorf("cert/ca: %w", err)
	}
	out.CA = ca.Data
	signed, err := client.Logical().Write(in.Mount+"/sign/web", map[string]any{"csr": in.CSR, "ttl": "1h"})
	if err != nil {
		return nil, fmt.Errorf("sign: %w", err)
	}
	out.Signed = signed.Data
	above, err := client.Logical().Write(in.Mount+"/root/sign-intermediate", map[string]any{"csr": in.CACSR, "ttl": "1h", "use_csr_values": true})
	if err != nil {
		return nil, fmt.Errorf("sign-intermediate: %w", err)
	}
	out.SignedCA = above.Data
	_, err = client.Logical().Write(in.Mount+"/sign/web", map[string]any{"csr": in.CSR, "alt_names": "a.elsewhere"})
	out.Refused = text(err)
	if err := client.Auth().Token().RevokeSelf(""); err != nil {
		return nil, fmt.Errorf("revoke-self: %w", err)
	}
	_, err = client.Auth().Token().LookupSelf()
	out.AfterRevoke = text(err)
	return out, nil
}

func withOpenBao(in input) (*output, error) {
	config := openbao.DefaultConfig()
	config.Address = in.Address
	if err := config.ConfigureTLS(&openbao.TLSConfig{CACert: in.Roots}); err != nil {
		return nil, err
	}
	client, err := openbao.NewClient(config)
	if err != nil {
		return nil, err
	}
	client.SetNamespace(in.Namespace)
	out := &output{}
	health, err := client.Sys().Health()
	if err != nil {
		return nil, fmt.Errorf("health: %w", err)
	}
	out.Sealed, out.Initialized = health.Sealed, health.Initialized
	login, err := client.Logical().Write("auth/approle/login", map[string]any{"role_id": in.RoleID, "secret_id": in.SecretID})
	if err != nil {
		return nil, fmt.Errorf("login: %w", err)
	}
	out.LoginLease = login.Auth.LeaseDuration
	client.SetToken(login.Auth.ClientToken)
	self, err := client.Auth().Token().LookupSelf()
	if err != nil {
		return nil, fmt.Errorf("lookup-self: %w", err)
	}
	if out.Renewable, err = self.TokenIsRenewable(); err != nil {
		return nil, err
	}
	signed, err := client.Logical().Write(in.Mount+"/sign/web", map[string]any{"csr": in.CSR, "ttl": "1h"})
	if err != nil {
		return nil, fmt.Errorf("sign: %w", err)
	}
	out.Signed = signed.Data
	return out, nil
}
