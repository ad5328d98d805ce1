//! `cluster token rotate`: new join tokens, when one came into the wrong hands.

use swarm_proto::wire;

use super::init::TokenRole;
use crate::command::Call;
use crate::connect::{Client, request_id};
use crate::failure::Failure;
use crate::output;

/// Which token, and whether to change it.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Token {
    #[command(subcommand)]
    pub(super) verb: Option<Verb>,
    /// Print only the token that lets in such a host
    pub(super) role: Option<TokenRole>,
}

#[derive(Debug, clap::Subcommand)]
pub(super) enum Verb {
    /// Makes new tokens and prints them: those before let nobody in any more, and members stay
    Rotate {
        /// Only the token that lets in such a host
        role: Option<TokenRole>,
    },
}

/// Rotates; what asks for no change is answered on this host ([`super::run_here`]).
pub(super) async fn run(token: Token, call: &Call) -> Result<(), Failure> {
    let Some(Verb::Rotate { role }) = token.verb else { return Ok(()) };
    let request = wire::RotateJoinTokensRequest {
        request_id: request_id()?,
        controller: role != Some(TokenRole::Agent),
        agent: role != Some(TokenRole::Controller),
    };
    let ask = async |mut client: Client| client.rotate_join_tokens(request.clone()).await;
    let tokens = call.cluster.call(ask).await?;
    let (controller, agent) = (&tokens.controller_token, &tokens.agent_token);
    output::data(&match role {
        None => format!("{controller}\n{agent}\n"),
        Some(TokenRole::Controller) => format!("{controller}\n"),
        Some(TokenRole::Agent) => format!("{agent}\n"),
    });
    output::talk(match role {
        None => "both join tokens are new; those before let nobody in any more",
        Some(TokenRole::Controller) => {
            "the controllers' join token is new; the one before lets nobody in any more"
        }
        Some(TokenRole::Agent) => {
            "the agents' join token is new; the one before lets nobody in any more"
        }
    });
    Ok(())
}
