//! Both sides of the line: secrets by name and content, and files that a build reads. Real files,
//! copied in.

use crate::workspace::LeftOutReason;
use crate::workspace::trial::{ApplyFixture, DISK};

/// Left out whatever is in them.
const BY_NAME: &[&str] = &[
    ".env",
    ".env.local",
    ".env.production",
    ".env.development.local",
    "prod.env",
    ".dev.vars",
    ".secrets",
    "a/.secrets.toml",
    "local.settings.json",
    "id_rsa",
    "id_rsa.bak",
    "id_dsa",
    "id_ecdsa",
    "id_ed25519",
    "id_ed25519_sk",
    "ssh_host_rsa_key",
    "server.key",
    "tls/SERVER.KEY",
    "config/master.key",
    "cert.p12",
    "cert.pfx",
    "AuthKey_1.p8",
    "vps.ppk",
    "trust.jks",
    "release.keystore",
    "age.agekey",
    "office.ovpn",
    "x.publishsettings",
    "secring.gpg",
    "private-keys-v1.d/A.key",
    "otr.private_key",
    "wallet.dat",
    "db.kdb",
    "db.kdbx",
    "x.psafe3",
    "login.keychain",
    "login.keychain-db",
    ".password-store/mail.gpg",
    ".local/share/keyrings/login.keyring",
    "Library/Keychains/x",
    ".netrc",
    "_netrc",
    ".authinfo",
    ".pypirc",
    ".pgpass",
    ".my.cnf",
    ".mylogin.cnf",
    ".htpasswd",
    ".git-credentials",
    ".vault-token",
    ".vault_pass.txt",
    ".terraformrc",
    "terraform.tfstate",
    "terraform.tfstate.backup",
    "errored.tfstate",
    ".s3cfg",
    ".boto",
    ".dockercfg",
    ".databrickscfg",
    ".passwd-s3fs",
    ".smbcredentials",
    ".msmtprc",
    ".fetchmailrc",
    ".ftpconfig",
    "sftp-config.json",
    ".vscode/sftp.json",
    "filezilla.xml",
    "sitemanager.xml",
    "recentservers.xml",
    ".dbeaver-data-sources.xml",
    "rclone.conf",
    ".config/rclone/rclone.conf",
    "talosconfig",
    "kaggle.json",
    "credentials.json",
    "credentials.toml",
    "credentials.xml",
    "client_secret_1.json",
    "x-firebase-adminsdk-1.json",
    "application_default_credentials.json",
    ".claude/.credentials.json",
    ".claude.json",
    ".codex/auth.json",
    "home/.codex/auth.json",
    ".gemini/oauth_creds.json",
    ".config/gh/hosts.yml",
    "gh/hosts.yml",
    ".config/hub/config",
    ".config/glab-cli/config.yml",
    ".config/doctl/config.yaml",
    ".config/hcloud/cli.toml",
    ".fly/config.yml",
    ".config/netlify/config.json",
    ".config/stripe/config.toml",
    ".supabase/access-token",
    ".wrangler/config/default.toml",
    ".pulumi/credentials.json",
    ".talos/config",
    ".snowsql/config",
    ".cache/huggingface/token",
    ".docker/config.json",
    ".kube/config",
    ".cargo/credentials.toml",
    ".gem/credentials",
    ".terraform.d/credentials.tfrc.json",
    ".m2/settings.xml",
    ".m2/settings-security.xml",
    ".ivy2/.credentials",
    ".gradle/gradle.properties",
    ".config/pip/pip.conf",
    ".config/pypoetry/auth.toml",
    ".composer/auth.json",
    ".hg/hgrc",
    ".subversion/auth/x",
    ".streamlit/secrets.toml",
    "etc/shadow",
    ".bash_history",
    ".zsh_history",
    ".local/share/fish/fish_history",
    ".python_history",
    ".node_repl_history",
    ".psql_history",
    ".mysql_history",
    ".rediscli_history",
    ".irb_history",
    ".viminfo",
    "key4.db",
    "key3.db",
    "signons.sqlite",
    "cookies.sqlite",
    ".mozilla/firefox/x",
    ".config/google-chrome/Default/Cookies",
    ".thunderbird/x",
    ".aws/credentials",
    ".aws/config",
    ".azure/accessTokens.json",
    ".ssh/config",
    ".gnupg/pubring.kbx",
    ".config/gcloud/x",
    ".oci/config",
    ".cloudflared/cert.pem",
];

const PEM: &str =
    "-----BEGIN RSA PRIVATE KEY-----\nMIIEowIBAAKCAQEAx4UbaDzY5xjW6hc9jwN0mX33XpTDVW1\n";
const ARMOURED: &str =
    "-----BEGIN PGP PRIVATE KEY BLOCK-----\n\nlQOYBGX8m2ABCADg5rVk2hdl4Q0mWz7tqT3nJX1aM0bLr8Yx\n";

/// Left out for their content.
const BY_CONTENT: &[(&str, &str)] = &[
    ("tls/key.pem", PEM),
    ("ec.pem", "-----BEGIN EC PRIVATE KEY-----\nMHcCAQEEIIGlVmnGmYvYb2i5"),
    ("signing.asc", ARMOURED),
    ("deploy_rsa", PEM),
    ("deploy_ed25519", "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEAAAAABG5vbmUA"),
    ("keys.txt", "AGE-SECRET-KEY-1QYQSZQGPQYQSZQGPQYQSZQGPQYQSZQGPQYQSZQGPQYQSZQGPQYQS3290G\n"),
    ("wg0.conf", "[Interface]\nPrivateKey = yAnz5TF+lXXJte14tji3zlMNq+hd2rYUIgJBgB3fBmk=\n"),
    (".npmrc", "registry=https://r.example.org/\n//r.example.org/:_authToken=npm_local\n"),
    ("pkg/.npmrc", "//registry.npmjs.org/:_authToken=npm_a8Ud03kdPq8s1mVb6Zx4Rt7Lw2Yc5Ne9Gh0J\n"),
    (".yarnrc.yml", "npmAuthToken: 3f9a1c77b2\n"),
    ("auth.json", "{\"OPENAI_API_KEY\": \"sk-proj-9Qm2xV7bT4kL0sW8\"}"),
    (
        "composer/auth.json",
        "{\"http-basic\":{\"repo\":{\"username\":\"u\",\"password\":\"h4nter22\"}}}",
    ),
    ("pip.conf", "[global]\nindex-url = https://me:s3cretpw@pypi.corp.example.com/simple\n"),
    (".condarc", "channels:\n  - https://me:t0kenXYZ9@conda.corp.net/x\n"),
    ("gradle.properties", "org.gradle.jvmargs=-Xmx2g\nsigning.password=kq8s71mm\n"),
    ("settings.xml", "<server><username>me</username><password>pl4inText</password></server>"),
    ("nuget.config", "<add key=\"ClearTextPassword\" value=\"x\" /><password>pl4inText</password>"),
    ("hosts.yml", "github.com:\n    oauth_token: gho_16C7e42F292c6912E7710c838347Ae178B4a\n"),
    (".bundle/config", "BUNDLE_GEMS__CORP__COM: \"https://u:t0ps3cret@gems.corp.com\"\n"),
    (".gitconfig", "[github]\n\ttoken = 0123456789abcdef0123456789abcdef01234567\n"),
    ("service-account.json", "{\"private_key\": \"-----BEGIN PRIVATE KEY-----\\nMIIEvQ\"}"),
    ("gcp-key.json", "{\"private_key\": \"-----BEGIN PRIVATE KEY-----\\nMIIEvQ\"}"),
    ("logins.json", "{\"encryptedPassword\":\"MDIEEPgAAAAAAAA=\"}"),
    (".mcp.json", "{\"env\":{\"GITHUB_TOKEN\":\"ghp_16C7e42F292c6912E7710c838347Ae178B4a\"}}"),
    ("kubeconfig", "users:\n- user:\n    client-key-data: LS0tLS1CRUdJTiBSU0E\n"),
    ("kubeconfig.yaml", "users:\n- user:\n    token: k8s9Qm2xV7bT4kL0sW8\n"),
    ("prod.kubeconfig", "users:\n- user:\n    password: Sup3rS4fe\n"),
    ("id_ed25519_work", PEM),
    ("deploy_key", "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEAAAAABG5vbmUA"),
    ("backup.dat", "\u{feff}\nPuTTY-User-Key-File-3: ssh-ed25519\n"),
    (".github_token", "3f9a1c77b25d4e60aa01\n"),
    ("token", "ghp_16C7e42F292c6912E7710c838347Ae178B4a\n"),
    ("token.json", "{\"refresh_token\": \"1//0gQm2xV7bT4kL0sW8\"}"),
    (".clasprc.json", "{\"token\":{\"access_token\":\"ya29.x\",\"refresh_token\":\"1//0gQm2x\"}}"),
    (".sentryclirc", "[auth]\ntoken=sntrys_9Qm2xV7bT4kL0sW8\n"),
    (".envs/.production/.postgres", "POSTGRES_PASSWORD=Sup3rS4fe\n"),
    (".flaskenv", "FLASK_SECRET_KEY=Sup3rS4fe\n"),
    ("config/prod.secret.exs", "config :a, A.Repo,\n  password: \"Sup3rS4fe\"\n"),
    ("appsettings.Production.json", "{\"Db\": \"Server=db;User Id=sa;Password=Sup3rS4fe;\"}"),
    ("secrets/db_password.txt", "Sup3rS4fe\n"),
    ("config/database.yml", "production:\n  password: Sup3rS4fe\n"),
    (".env/production", "DB_PASSWORD=Sup3rS4fe\n"),
    ("profiles.yml", "x:\n  type: postgres\n  password: Sup3rS4fe\n"),
    ("clouds.yaml", "clouds:\n  a:\n    auth:\n      password: Sup3rS4fe\n"),
    ("a-openrc.sh", "export OS_PASSWORD=Sup3rS4fe\n"),
    ("admin.conf", "users:\n- user:\n    client-key-data: LS0tLS1CRUdJTiBSU0E\n"),
    ("prod.tfvars", "db_password = \"Sup3rS4fe\"\n"),
    ("wp-config.php", "define( 'DB_PASSWORD', 'Sup3rS4fe' );\n"),
    ("secrets.yml", "production:\n  secret_key_base: 3b7cd727ee24e8444053437c36cc66c3\n"),
    ("secrets.json", "{\"stripe\": \"sk_live_4eC39HqLyjWDarjtT1zdp7dc\"}"),
    ("k8s/secret.yaml", "kind: Secret\nstringData:\n  password: Sup3rS4fe\n"),
    (".bashrc", "export OPENAI_API_KEY=sk-proj-9Qm2xV7bT4kL0sW8\n"),
    (".zshrc", "export AWS_ACCESS_KEY_ID=AKIAQ3EGRI5XJ7ZPLM2N\n"),
    (".env.example", "OPENAI_API_KEY=sk-proj-9Qm2xV7bT4kL0sW8aB1\n"),
    (".env.sample", "SLACK=xoxb-2048-4096-a1B2c3D4e5\n"),
    (
        ".env.template",
        "JWT=eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U\n",
    ),
    ("x.postman_environment.json", "{\"value\":\"glpat-8sQm2xV7bT4kL0sW8aB1\"}"),
];

/// As they are tracked in well-known repositories (or as those would have them), some of which a
/// build cannot do without.
const ORDINARY: &[(&str, &str)] = &[
    (
        ".env.example",
        "APP_KEY=\nDB_PASSWORD=postgres-password\nOPENAI_API_KEY=sk-your-key-goes-here-123\n",
    ),
    (
        ".env.sample",
        "AWS_ACCESS_KEY_ID=AKIAIOSFODNN7EXAMPLE\nTOKEN=ghp_xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\n",
    ),
    (".env.production.sample", "SECRET_KEY_BASE=\nSMTP_PASSWORD=\n"),
    (
        "docker/.env.template",
        "PRIVATE_KEY=\"-----BEGIN PRIVATE KEY-----\\n...\\n-----END PRIVATE KEY-----\"\n",
    ),
    ("example.env", "PASSWORD=changeme-please\n"),
    (".envrc", "use flake\nPATH_add bin\n"),
    (
        ".npmrc",
        "save-exact=true\nengine-strict=true\n//registry.npmjs.org/:_authToken=${NPM_TOKEN}\n",
    ),
    ("packages/a/.npmrc", "package-lock=false\nauth-type=legacy\n"),
    (".yarnrc", "registry \"https://registry.yarnpkg.com\"\n"),
    (
        ".yarnrc.yml",
        "nodeLinker: node-modules\nyarnPath: .yarn/releases/yarn-4.5.0.cjs\nnpmAuthToken: \"${NPM_TOKEN}\"\n",
    ),
    (
        "certs/ca.pem",
        "-----BEGIN CERTIFICATE-----\nMIIDdzCCAl+gAwIBAgIEAgAAuTANBgkqhkiG9w0BAQUFADBaMQswCQYDVQQG\n",
    ),
    ("dhparam.pem", "-----BEGIN DH PARAMETERS-----\nMIIBCAKCAQEA\n"),
    ("cacert.pem", "# Mozilla CA bundle\n-----BEGIN CERTIFICATE-----\nMIIF\n"),
    ("book/01-introduction.asc", "== Getting Started\nA token is checked: the password, say.\n"),
    ("KEYS.asc", "-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nmQINBFit\n"),
    ("deb/nginx.gpg.key", "-----BEGIN PGP PUBLIC KEY BLOCK-----\nmQENBE5O\n"),
    ("id_rsa.pub", "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABgQC7 me@host\n"),
    ("crypto_rsa", "package rsa\n"),
    (
        "gradle.properties",
        "org.gradle.jvmargs=-Xmx4g\nandroid.useAndroidX=true\nsigningPassword=${env.PW}\nVERSION_NAME=1.2\n",
    ),
    ("android/app/debug.keystore", "\u{0}"),
    (
        "settings.xml",
        "<settings><localRepository>/r</localRepository><password>${env.PW}</password></settings>",
    ),
    (
        "NuGet.Config",
        "<configuration><packageSources><add key=\"nuget.org\" value=\"https://api.nuget.org/v3/index.json\" protocolVersion=\"3\" /></packageSources></configuration>",
    ),
    ("pip.conf", "[global]\nindex-url = https://pypi.org/simple\ntimeout = 60\n"),
    ("ansible/hosts.yml", "all:\n  hosts:\n    web1:\n      ansible_host: 10.0.0.1\n"),
    (
        "locales/en/auth.json",
        "{\"login\": \"Log in\", \"password\": \"Your password\", \"forgot\": \"Forgot?\"}",
    ),
    ("locales/de/auth.json", "{\"password\": \"Passwort\", \"token\": \"Schlüssel\"}"),
    (".bundle/config", "---\nBUNDLE_PATH: \"vendor/bundle\"\nBUNDLE_WITHOUT: \"production\"\n"),
    (
        ".mcp.json",
        "{\"mcpServers\":{\"a\":{\"command\":\"npx\",\"env\":{\"API_KEY\":\"${API_KEY}\"}}}}",
    ),
    (".aider.conf.yml", "model: x\nauto-commits: false\n"),
    (
        "charts/x/templates/secrets.yaml",
        "kind: Secret\ndata:\n  password: {{ .Values.password | b64enc }}\n",
    ),
    ("config/secrets.yml", "production:\n  secret_key_base: <%= ENV[\"SECRET_KEY_BASE\"] %>\n"),
    ("i18n/secrets.json", "{\"title\": \"Secrets\", \"add\": \"Add a secret\"}"),
    ("k8s/secret.yaml", "kind: ExternalSecret\nspec:\n  secretStoreRef:\n    name: vault\n"),
    ("fixtures.us-east-2.tfvars", "region = \"us-east-2\"\nenabled = true\n"),
    ("profiles.yml", "x:\n  type: postgres\n  password: \"{{ env_var('PW') }}\"\n"),
    ("service-account.json", "{\"kind\": \"ServiceAccount\", \"metadata\": {\"name\": \"x\"}}"),
    (".profile", "export EDITOR=vim\nexport GITHUB_TOKEN=$(pass github)\n"),
    ("config.fish", "set -x EDITOR vim\n"),
    ("keys.txt", "ctrl-a: go to the start of the line\n"),
    ("src/env.rs", "sk-proj-9Qm2xV7bT4kL0sW8aB1"),
    ("environment.yml", "name: x\n"),
    ("test/fixtures/README.md", "-----BEGIN PRIVATE KEY-----"),
    ("docs/credentials.md", "password = hunter22x"),
    ("src/cookies/index.ts", ""),
    ("src/secrets.ts", ""),
    ("lib/token.go", ""),
    ("keys/mod.rs", ""),
    ("docker/config.json", "{}"),
    ("kube/config", ""),
    ("gh-pages/hosts.yaml", ""),
    (".github/workflows/release.yml", "token: ${{ secrets.GITHUB_TOKEN }}"),
    (".cargo/config.toml", ""),
    (".gitattributes", ""),
    (".vscode/settings.json", "{}"),
    (".hgignore", ""),
    (".docker/Dockerfile", ""),
    (".streamlit/config.toml", ""),
    (".gradle/wrapper.jar", ""),
    (".m2/wrapper/maven-wrapper.properties", ""),
    (".codex/config.toml", ""),
    (".claude/settings.json", "{}"),
    ("pkg/history.go", ""),
    ("testdata/mod.rs", PEM),
    ("docs/keys.md", PEM),
    ("notes.txt", "How a key begins: -----BEGIN PRIVATE KEY-----\n"),
    ("cert.txt", "-----BEGIN CERTIFICATE-----\nMIIDdzCCAl+gAwIBAgIEAgAAuTANBgkqhkiG9w0B\n"),
    ("config/database.yml", "test:\n  password: <%= ENV[\"DB_PASSWORD\"] %>\n"),
    ("appsettings.json", "{\"Logging\": {\"LogLevel\": {\"Default\": \"Information\"}}}"),
    ("secrets/README", "Put the password of the database here."),
    ("internal/secrets/manager.go", "token := readToken(path)\n"),
    ("token", "\n"),
    // folders and source code that have the name of a secret
    ("pkg/cluster/internal/kubeconfig/kubeconfig.go", "config.BearerToken = string(token)\n"),
    ("cmd/util/kubeconfig.go", "flag.Token = string(token)\n"),
    ("internal/hub/config/config.go", ""),
    ("src/huggingface/token/mod.rs", ""),
    ("pkg/crypto/id_rsa_signer.go", "signer.Secret = readSecret(path)\n"),
    ("src/python.env/main.py", ""),
    (".env/lib/python3/site.py", "password = getpass_from(user)\n"),
    ("api/server.key/mod.rs", ""),
    ("test/kubeconfig.yaml", "users:\n- user:\n    exec:\n      command: aws\n"),
    ("login.data.ts", ""),
];

/// Which of these files are left out, each in a folder of its own.
async fn left_out(files: &[(&str, &str)]) -> Vec<String> {
    let trial = ApplyFixture::new(&[]);
    for (at, (path, content)) in files.iter().enumerate() {
        let path = trial.root.join(format!("{at}")).join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }
    let (_, copied, _) = trial.copy_with(&[], &[], DISK).await;
    let left_out = copied.unwrap().left_out;
    assert!(left_out.iter().all(|it| it.why == LeftOutReason::Secret));
    let at = |path: String| path.split_once('/').unwrap().0.parse::<usize>().unwrap();
    let mut at: Vec<_> = left_out.into_iter().map(|it| at(it.path.to_string())).collect();
    at.sort_unstable();
    at.into_iter().map(|at| files[at].0.to_owned()).collect()
}

fn names(files: &[(&str, &str)]) -> Vec<String> {
    files.iter().map(|(path, _)| (*path).to_owned()).collect()
}

#[tokio::test]
async fn secrets_are_left_out_by_name() {
    let files: Vec<_> = BY_NAME.iter().map(|&path| (path, "x")).collect();
    assert!(files.len() >= 109, "{}", files.len());
    assert_eq!(left_out(&files).await, names(&files));
}

#[tokio::test]
async fn names_that_are_also_ordinary_are_left_out_by_content() {
    assert_eq!(left_out(BY_CONTENT).await, names(BY_CONTENT));
}

/// Nobody's `.bashrc` ends after 64 KiB.
#[tokio::test]
async fn a_long_file_is_read_to_its_end() {
    let long = "alias a=b\n".repeat(7_000);
    let with = format!("{long}export GITHUB_TOKEN=ghp_16C7e42F292c6912E7710c838347Ae178B4a\n");
    assert_eq!(left_out(&[(".bashrc", &with), ("b/.bashrc", &long)]).await, [".bashrc"]);
}

#[tokio::test]
async fn what_a_build_reads_goes_in() {
    assert_eq!(left_out(ORDINARY).await, Vec::<String>::new());
}
