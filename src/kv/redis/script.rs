//! The scripts, each run by the server as one: nothing comes between its steps.

use std::sync::LazyLock;

use ::redis::{Cmd, Value};
use tokio::time::Instant;

use super::pool::{Effect, Pool};
use crate::error::Result;

/// A script by its digest, which is all that is sent where the server knows it.
pub(super) struct Script {
    code: &'static str,
    digest: LazyLock<String>,
    effect: Effect,
}

macro_rules! script {
    ($effect:expr, $($file:literal),+) => {
        Script {
            code: concat!($(include_str!($file)),+),
            digest: LazyLock::new(|| digest(concat!($(include_str!($file)),+))),
            effect: $effect,
        }
    };
}

pub(super) static READ: Script = script!(Effect::Read, "shared.lua", "read.lua");
pub(super) static WRITE: Script = script!(Effect::Write, "shared.lua", "write.lua");
pub(super) static BUCKET: Script = script!(Effect::Write, "bucket.lua");
pub(super) static SIZES: Script = script!(Effect::Read, "sizes.lua");

fn digest(code: &str) -> String {
    ::redis::Script::new(code).get_hash().to_owned()
}

/// What a script is called with.
#[derive(Debug, Default)]
pub(super) struct Arguments {
    pub(super) keys: Vec<String>,
    pub(super) values: Vec<bytes::Bytes>,
}

impl Arguments {
    pub(super) fn key(&mut self, key: impl Into<String>) {
        self.keys.push(key.into());
    }

    pub(super) fn value(&mut self, value: impl Into<bytes::Bytes>) {
        self.values.push(value.into());
    }

    fn command(&self, name: &str, script: &str) -> Cmd {
        let mut command = ::redis::cmd(name);
        command.arg(script).arg(self.keys.len()).arg(&self.keys);
        for value in &self.values {
            command.arg(value.as_ref());
        }
        command
    }
}

impl Script {
    pub(super) async fn run(
        &self,
        pool: &Pool,
        arguments: &Arguments,
        deadline: Instant,
    ) -> Result<Value> {
        let command = arguments.command("EVALSHA", &self.digest);
        match pool.ask((&command).into(), self.effect, deadline).await? {
            // It did nothing: the server forgot the script, or never had it.
            Err(error) if error.code() == Some("NOSCRIPT") => {
                let command = arguments.command("EVAL", self.code);
                pool.request(&command, self.effect, deadline).await
            }
            answer => answer.map_err(|error| pool.refused(&error)),
        }
    }
}
