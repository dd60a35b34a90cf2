//! `kvasir user create|ls|grant|disable|enable|passwd|reset|rm`.

use std::io::Read;
use std::path::PathBuf;

use anyhow::Context;
use clap::{Args, Subcommand, ValueEnum};
use reqwest::Method;
use serde_json::{Value as Json, json};

use super::client::{block_on, segment};
use super::frame::Frame;
use super::output::Printer;
use crate::exit::Failure;

/// Make and manage users of the accounts dialect.
///
/// Works on the server that holds the data folder, or on the folder itself while none runs. A user
/// is named by email or id.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kvasir user create --role admin admin@example.com
  kvasir user ls

Exit codes: 0 done, 1 failed, 2 usage, 3 no such user, 4 denied, 5 the email is taken, 6 unreachable")]
pub(super) struct Users {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Create(Create),
    #[command(visible_alias = "list")]
    Ls(Ls),
    Grant(Grant),
    Disable(Named),
    Enable(Named),
    Passwd(Passwd),
    Reset(Named),
    #[command(visible_alias = "delete")]
    Rm(Named),
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Role {
    User,
    Admin,
}

impl Role {
    fn name(self) -> &'static str {
        match self {
            Role::User => "user",
            Role::Admin => "admin",
        }
    }
}

/// Make a user. Without --password-file a password is made and printed once.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kvasir user create --role admin admin@example.com
  kvasir user create --password-file - alex@example.com < password.txt

Exit codes: 0 done, 1 failed, 2 usage, 4 denied, 5 the email is taken, 6 unreachable")]
struct Create {
    /// The email
    email: String,
    /// The name
    #[arg(long)]
    name: Option<String>,
    /// What the user may do
    #[arg(long, value_enum, default_value = "user")]
    role: Role,
    #[command(flatten)]
    password: Password,
    #[command(flatten)]
    frame: Frame,
}

/// List users.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kvasir user ls
  kvasir user ls --json

Exit codes: 0 done, 1 failed, 2 usage, 4 denied, 6 unreachable")]
struct Ls {
    #[command(flatten)]
    frame: Frame,
}

/// Give a user a role.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kvasir user grant alex@example.com admin
  kvasir user grant alex@example.com user

Exit codes: 0 done, 1 failed, 2 usage, 3 no such user, 4 denied, 6 unreachable")]
struct Grant {
    /// Email or id
    user: String,
    /// The role
    #[arg(value_enum)]
    role: Role,
    #[command(flatten)]
    frame: Frame,
}

/// Do this with one user: `disable` and `enable` logging in, `reset` makes a one-time token for a
/// new password, `rm` deletes the account.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kvasir user reset alex@example.com
  kvasir user disable alex@example.com

Exit codes: 0 done, 1 failed, 2 usage, 3 no such user, 4 denied, 6 unreachable")]
struct Named {
    /// Email or id
    user: String,
    #[command(flatten)]
    frame: Frame,
}

/// Set a user's password; all sessions end. Without --password-file one is made and printed once.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kvasir user passwd alex@example.com
  kvasir user passwd --password-file - alex@example.com < password.txt

Exit codes: 0 done, 1 failed, 2 usage, 3 no such user, 4 denied, 6 unreachable")]
struct Passwd {
    /// Email or id
    user: String,
    #[command(flatten)]
    password: Password,
    #[command(flatten)]
    frame: Frame,
}

/// Where a password comes from; never from the arguments, which everybody on the machine sees.
#[derive(Debug, Args)]
struct Password {
    /// File with the password in its first line; - is standard input
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
}

impl Password {
    /// The password, and whether it was made here and has to be shown.
    fn get(&self) -> Result<(String, bool), Failure> {
        let Some(path) = &self.password_file else {
            let mut random = [0; 15];
            getrandom::fill(&mut random).context("the system gives no random bytes")?;
            return Ok((data_encoding::BASE64URL_NOPAD.encode(&random), true));
        };
        let mut text = String::new();
        if path.as_os_str() == "-" {
            std::io::stdin()
                .read_to_string(&mut text)
                .context("cannot read standard input")?;
        } else {
            text = std::fs::read_to_string(path)
                .with_context(|| format!("cannot read {}", path.display()))?;
        }
        Ok((text.lines().next().unwrap_or_default().to_owned(), false))
    }
}

impl Users {
    pub(super) fn run(self) -> Result<(), Failure> {
        block_on(async {
            match self.verb {
                Verb::Create(create) => create.run().await,
                Verb::Ls(ls) => ls.run().await,
                Verb::Grant(grant) => {
                    let change = json!({ "role": grant.role.name() });
                    let path = path(&grant.user);
                    call(&grant.frame, Method::PATCH, &path, Some(&change)).await
                }
                Verb::Disable(named) => named.change(&json!({ "disabled": true })).await,
                Verb::Enable(named) => named.change(&json!({ "disabled": false })).await,
                Verb::Passwd(passwd) => passwd.run().await,
                Verb::Reset(named) => {
                    let path = format!("{}/reset", path(&named.user));
                    call(&named.frame, Method::POST, &path, None).await
                }
                Verb::Rm(named) => {
                    let path = path(&named.user);
                    call(&named.frame, Method::DELETE, &path, None).await
                }
            }
        })
    }
}

fn path(user: &str) -> String {
    format!("/users/{}", segment(user))
}

/// Calls one route and prints what it answers.
async fn call(
    frame: &Frame,
    method: Method,
    path: &str,
    body: Option<&Json>,
) -> Result<(), Failure> {
    let answer = frame.call(method, path, body).await?;
    frame.tell(&answer, || told(&answer))
}

/// An answer for people: the token of a reset alone, of a user what matters.
fn told(answer: &Json) -> String {
    let text = |name: &str| answer[name].as_str().unwrap_or_default().to_owned();
    match answer {
        Json::Null => "done".to_owned(),
        _ if answer["token"].is_string() => text("token"),
        _ => {
            let state = if answer["disabled"] == true {
                "disabled"
            } else {
                "enabled"
            };
            let mut line = format!(
                "{}\t{}\t{}\t{state}",
                text("id"),
                text("email"),
                text("role")
            );
            if answer["password"].is_string() {
                line += &format!("\npassword: {}", text("password"));
            }
            line
        }
    }
}

impl Named {
    async fn change(self, change: &Json) -> Result<(), Failure> {
        call(&self.frame, Method::PATCH, &path(&self.user), Some(change)).await
    }
}

impl Create {
    async fn run(self) -> Result<(), Failure> {
        let (password, is_made) = self.password.get()?;
        let body = json!({
            "email": self.email, "password": password, "name": self.name, "role": self.role.name(),
        });
        let mut made = self.frame.call(Method::POST, "/users", Some(&body)).await?;
        if is_made {
            made["password"] = json!(password);
        }
        self.frame.tell(&made, || told(&made))
    }
}

impl Passwd {
    async fn run(self) -> Result<(), Failure> {
        let (password, is_made) = self.password.get()?;
        let change = json!({ "password": password });
        let mut changed = self
            .frame
            .call(Method::PATCH, &path(&self.user), Some(&change))
            .await?;
        if is_made {
            changed["password"] = json!(password);
        }
        self.frame.tell(&changed, || told(&changed))
    }
}

impl Ls {
    async fn run(self) -> Result<(), Failure> {
        let users = self.frame.all("/users", "users").await?;
        let mut printer = Printer::new(&self.frame.form);
        printer.begin(&["id", "email", "role", "state"])?;
        for user in users {
            let text = |name: &str| user[name].as_str().unwrap_or_default().to_owned();
            let state = if user["disabled"] == true {
                "disabled"
            } else {
                "enabled"
            };
            let cells = [text("id"), text("email"), text("role"), state.to_owned()];
            printer.row(&user, &cells)?;
        }
        printer.end()
    }
}
