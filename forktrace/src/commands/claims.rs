//! `forktrace claims`: settles claims by experiment.

use std::{
    fs,
    io::{self, IsTerminal as _},
    path::Path,
};

use anyhow::{Context as _, Result, bail, ensure};

use super::{
    Outcome,
    files::{Target, Use, make_folder},
    output::to_stdout,
    page::wants_color,
    rights::Rights,
};
use forktrace_claims::{
    Claim, ClaimError, Mode, Runner, Settled, Verdict, builtin,
    file::Origin,
    render::{self as shown, ClaimsFormat, ClaimsLine},
    verdict,
};
use forktrace_core::render::Style;
use forktrace_process::launch::Accounts;

use crate::cli::{ClaimsCommand, ClaimsRunArgs};

/// A claim is inconclusive.
const INCONCLUSIVE: u8 = 1;
/// A claim could not be run.
const FAILED: u8 = 125;

/// Lists, shows or tests claims.
///
/// # Errors
/// When the output can't be written, or no claim can be tested at all. A single
/// claim that can't be is shown as such.
pub(crate) fn claims(command: &ClaimsCommand) -> Result<Outcome> {
    match command {
        ClaimsCommand::List(args) => {
            let claims = builtin::claims()
                .into_iter()
                .collect::<Result<Vec<_>, _>>()?;
            to_stdout(shown::list(&claims, args.format).as_bytes())?;
            Ok(Outcome::Exit(0))
        }
        ClaimsCommand::Show(args) => {
            let claim = find(&args.claim)??;
            let style = Style {
                color: wants_color(args.color, io::stdout().is_terminal()),
                verbose: true,
                ..Style::PLAIN
            };
            to_stdout(shown::show(&claim, args.format, &style).as_bytes())?;
            Ok(Outcome::Exit(0))
        }
        ClaimsCommand::Run(args) => run(args),
    }
}

/// A claim by its id, or from a file. The outer error: there is none such; the
/// inner one: it can't be used.
fn find(name: &str) -> Result<Result<Claim, ClaimError>> {
    if name.contains('/') || name.ends_with(".toml") {
        let path = Path::new(name);
        let text = fs::read_to_string(path).with_context(|| format!("{name} can't be read"))?;
        let folder = path
            .parent()
            .filter(|folder| !folder.as_os_str().is_empty());
        let folder = folder.unwrap_or(Path::new("."));
        let origin = Origin {
            name: name.to_owned(),
            folder: Some(fs::canonicalize(folder).unwrap_or_else(|_| folder.to_owned())),
        };
        return Ok(Claim::parse(&text, origin));
    }
    let mut claims = builtin::claims().into_iter();
    match claims.find(|claim| claim.as_ref().is_ok_and(|claim| claim.id == name)) {
        Some(claim) => Ok(claim),
        None => bail!(
            "there is no claim {name}; `forktrace claims list` names them, and a file is given by \
             its path"
        ),
    }
}

fn run(args: &ClaimsRunArgs) -> Result<Outcome> {
    let claims: Vec<Result<Claim, ClaimError>> = if args.claims.is_empty() {
        builtin::claims()
    } else {
        args.claims
            .iter()
            .map(|name| find(name))
            .collect::<Result<_>>()?
    };
    // Else each claim would say the same.
    ensure!(
        Rights::ours()?.can_record(),
        "claims are tested by recording what their commands do, which takes root or CAP_BPF and \
         CAP_PERFMON; run it with sudo"
    );
    let accounts = Accounts::choose(None, false)?;
    let mut file = match args.output.as_deref() {
        Some(path) if path != Path::new("-") => {
            Some(Target::open(path, Use::Report, &accounts, false)?)
        }
        _ => None,
    };
    if let Some(save) = &args.save {
        make_folder(save, &accounts)?;
    }
    let style = Style {
        color: wants_color(args.color, file.is_none() && io::stdout().is_terminal()),
        verbose: args.verbose,
        ..Style::PLAIN
    };
    let mode = if args.quick { Mode::Quick } else { Mode::Full };
    let owner = accounts.caller.as_ref();
    let owner = owner.map(|account| (account.uid.as_raw(), account.gid.as_raw()));
    let runner = Runner::new(mode, args.save.clone(), owner)?;
    let runs = claims
        .iter()
        .flatten()
        .map(|claim| runner.count(claim))
        .sum();
    let shows_progress = !args.quiet && io::stderr().is_terminal();
    let mut line = ClaimsLine::new(shows_progress, runs);
    let mut written = String::new();
    let mut write = |text: &str| match &mut file {
        Some(file) => {
            written.push_str(text);
            file.write(|to| to.write_all(written.as_bytes()))
        }
        None => to_stdout(text.as_bytes()),
    };

    let mut settled: Vec<Settled> = Vec::new();
    for claim in claims {
        let result = match claim {
            Ok(claim) => {
                let result = verdict::settle(&claim, &runner, |progress| {
                    line.show(&claim.id, &progress);
                });
                line.finish(runner.count(&claim));
                result
            }
            Err(error) => Settled::unreadable(error),
        };
        if args.format == ClaimsFormat::Text {
            write(&format!("{}\n", shown::settled(&result, &style)))?;
        }
        settled.push(result);
    }
    let outcome = shown::Outcome {
        schema_version: 1,
        machine: runner.machine(),
        mode,
        claims: &settled,
    };
    // As text each claim is already there.
    write(&match args.format {
        ClaimsFormat::Text => shown::summary(&outcome, &style),
        format => shown::outcome(&outcome, format, &style),
    })?;
    Ok(Outcome::Exit(status(&settled)))
}

fn status(settled: &[Settled]) -> u8 {
    if settled.iter().any(|claim| claim.error.is_some()) {
        FAILED
    } else if settled
        .iter()
        .any(|claim| claim.verdict == Verdict::Inconclusive)
    {
        INCONCLUSIVE
    } else {
        0
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::Cli;

    /// What `docs/writing-claims.md` shows first.
    fn shown_in_docs() -> Claim {
        let document = include_str!("../../writing-claims.md");
        let (_, rest) = document.split_once("```toml\n").expect("an example");
        let (text, _) = rest.split_once("```").expect("its end");
        let origin = Origin {
            name: "docs/writing-claims.md".to_owned(),
            folder: None,
        };
        Claim::parse(text, origin).unwrap_or_else(|error| panic!("{error}"))
    }

    #[test]
    fn our_own_commands_in_claims_are_commands_of_ours() {
        let claims = builtin::claims()
            .into_iter()
            .map(|claim| claim.expect("a claim"));
        let mut seen = 0;
        for claim in claims.chain([shown_in_docs()]) {
            for arm in &claim.arms {
                if arm.command[0] != "{forktrace}" {
                    continue;
                }
                for params in &arm.params {
                    let words = arm.command[1..].iter().map(|word| {
                        params.iter().fold(word.clone(), |word, param| {
                            let value = match &param.values[0] {
                                serde_json::Value::String(text) => text.clone(),
                                value => value.to_string(),
                            };
                            word.replace(&format!("{{{}}}", param.name), &value)
                        })
                    });
                    let words: Vec<String> =
                        ["forktrace".to_owned()].into_iter().chain(words).collect();
                    if let Err(error) = Cli::try_parse_from(&words) {
                        panic!("{}, {}: {error}", claim.id, arm.name);
                    }
                    seen += 1;
                }
            }
        }
        assert!(seen > 20, "{seen}");
    }
}
