//! Packet rules of one network namespace: a [`Table`] is data, and [`Socket::apply`] puts it into the kernel in one
//! transaction of raw nfnetlink messages. No `nft` program is run (that costs 13–17 ms a change).
//!
//! Chains are never removed, only emptied and filled again within the transaction: once the last chain of kind `nat`
//! of a namespace goes, the kernel forgets how to translate the connections that are already established.

mod encode;
mod list;
mod rule;
mod write;

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

use netlink_sys::protocols::NETLINK_NETFILTER;

pub use list::ListedChain;
pub use rule::{
    Chain, ChainKind, Hook, HookPoint, Log, Match, NamedMap, Rule, Spread, Table, Transport,
    Verdict,
};

use super::namespace::{Namespace, NamespaceError};
use super::transport::{self, Refusal};
use encode::{Batch, Stale};

/// `NFNLGRP_NFTABLES`: who listens here hears of every change of rules.
const CHANGES: u32 = 7;

/// Why rules could not be put in place or listed.
#[derive(Debug, thiserror::Error)]
pub enum NftError {
    /// No socket.
    #[error("could not open an nftables socket")]
    Open(#[source] io::Error),
    /// The namespace to work in could not be entered.
    #[error(transparent)]
    Namespace(#[from] NamespaceError),
    /// The request did not reach the kernel, or its answer not us.
    #[error("could not {attempted}: the nftables socket failed")]
    Socket {
        /// What was asked.
        attempted: String,
        /// Why not.
        source: io::Error,
    },
    /// The kernel refused.
    #[error("could not {attempted}")]
    Refused {
        /// What was asked.
        attempted: String,
        /// The kernel's reason.
        source: io::Error,
    },
}

impl NftError {
    fn socket(attempted: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let attempted = attempted.into();
        |source| Self::Socket { attempted, source }
    }

    fn refused(attempted: String, refusal: &Refusal) -> Self {
        Self::Refused { attempted, source: refusal.error() }
    }
}

/// What makes one table of another: worked out once, made in each namespace that has that table.
#[derive(Debug)]
pub struct Change(Batch);

impl Change {
    /// The smallest one; `None` where there is nothing to do. Of a map with a name single elements are exchanged, so its
    /// addresses should stay where they are: see [`Verdict::Dnat`].
    pub fn between(old: &Table, new: &Table) -> Option<Self> {
        Batch::change(old, new).map(Self)
    }
}

/// An nftables socket in one network namespace. It keeps that namespace alive.
#[derive(Debug)]
pub struct Socket {
    transport: transport::Transport,
}

impl Socket {
    /// Opens a socket in the calling thread's namespace.
    pub fn open() -> Result<Self, NftError> {
        let transport = transport::Transport::open(NETLINK_NETFILTER).map_err(NftError::Open)?;
        Ok(Self { transport })
    }

    /// Opens a socket in another namespace.
    pub fn open_in(namespace: &Namespace) -> Result<Self, NftError> {
        namespace.enter(Self::open)?
    }

    /// Makes the chains of `table` hold exactly its rules, all or none of them, whatever is in them. Chains that it does
    /// not name, and tables of others, stay as they are; but what is named after one of its chains goes if it is not used.
    pub fn apply(&mut self, table: &Table) -> Result<(), NftError> {
        let stale = self.stale(table)?;
        self.commit(&Batch::fill(table, &stale))
    }

    /// Makes a change of a table that holds what [`Socket::apply`] and changes made of it, all or nothing.
    pub fn change(&mut self, change: &Change) -> Result<(), NftError> {
        self.commit(&change.0)
    }

    fn stale(&mut self, table: &Table) -> Result<Stale, NftError> {
        let (mut chains, mut maps) = (Vec::new(), Vec::new());
        let belongs = |name: &String| {
            let mut chains = table.chains.iter();
            chains.any(|chain| {
                name.strip_prefix(&chain.name).is_some_and(|rest| rest.starts_with('.'))
            })
        };
        self.ask(encode::GET_CHAINS, true, "list the chains of packet rules", |payload| {
            chains.extend(list::name_in(payload, &table.name, list::CHAIN_NAME).filter(&belongs));
        })?;
        self.ask(encode::GET_SETS, true, "list the maps of packet rules", |payload| {
            maps.extend(list::name_in(payload, &table.name, list::SET_NAME).filter(&belongs));
        })?;
        Ok(encode::stale(table, chains, maps))
    }

    /// Removes a table with everything in it. None of that name is fine.
    pub fn delete_table(&mut self, name: &str) -> Result<(), NftError> {
        self.commit(&Batch::remove(name))
    }

    fn commit(&mut self, batch: &Batch) -> Result<(), NftError> {
        let failed = |source| {
            NftError::socket(format!("set the packet rules of table `{}`", batch.table()))(source)
        };
        let (bytes, first, last) = batch.number(|| self.transport.next_sequence());
        self.transport.send(&bytes).map_err(failed)?;
        let refusals = self.transport.answers(first, last).map_err(failed)?;
        refusals.first().map_or(Ok(()), |refusal| {
            let what = batch.describe(refusal.sequence.wrapping_sub(first));
            Err(NftError::refused(what, refusal))
        })
    }

    /// A number that rises with every change of rules in the namespace, whoever makes it.
    pub fn generation(&mut self) -> Result<u32, NftError> {
        const ATTEMPTED: &str = "ask for the generation of the packet rules";
        let mut generation = None;
        self.ask(encode::GET_GENERATION, false, ATTEMPTED, |payload| {
            generation = generation.or_else(|| list::generation(payload));
        })?;
        generation.ok_or_else(|| {
            NftError::socket(ATTEMPTED)(io::Error::other("the kernel gave no number"))
        })
    }

    /// All chains that packets meet (base chains) in the families `ip` and `inet`, of whatever table.
    pub fn base_chains(&mut self) -> Result<Vec<ListedChain>, NftError> {
        let mut chains = Vec::new();
        self.ask(encode::GET_CHAINS, true, "list the chains of packet rules", |payload| {
            chains.extend(list::base_chain(payload));
        })?;
        self.ask(encode::GET_RULES, true, "list the packet rules", |payload| {
            list::note_rule(payload, &mut chains);
        })?;
        Ok(chains)
    }

    /// How many rules each chain of an `ip` table holds; empty when there is no such table.
    pub fn rule_counts(&mut self, table: &str) -> Result<BTreeMap<String, usize>, NftError> {
        let mut counts = BTreeMap::new();
        self.ask(encode::GET_CHAINS, true, "list the chains of packet rules", |payload| {
            if let Some(chain) = list::name_in(payload, table, list::CHAIN_NAME) {
                counts.insert(chain, 0);
            }
        })?;
        self.ask(encode::GET_RULES, true, "list the packet rules", |payload| {
            if let Some(chain) = list::name_in(payload, table, list::RULE_CHAIN) {
                *counts.entry(chain).or_default() += 1;
            }
        })?;
        Ok(counts)
    }

    /// How many packets the rules of a chain of an `ip` table counted since they were put there; `None` where none counts.
    pub fn counted(&mut self, table: &str, chain: &str) -> Result<Option<u64>, NftError> {
        let mut counted = None;
        self.ask(encode::GET_RULES, true, "list the packet rules", |payload| {
            if list::name_in(payload, table, list::RULE_CHAIN).as_deref() == Some(chain)
                && let Some(packets) = list::packets(payload)
            {
                counted = Some(counted.unwrap_or(0) + packets);
            }
        })?;
        Ok(counted)
    }

    fn ask(
        &mut self,
        kind: u16,
        dump: bool,
        attempted: &str,
        mut each: impl FnMut(&[u8]),
    ) -> Result<(), NftError> {
        let sequence = self.transport.next_sequence();
        let request = encode::request(kind, dump, sequence);
        self.transport.send(&request).map_err(NftError::socket(attempted))?;
        let refusals = self
            .transport
            .receive(sequence, |reply| each(reply.payload()))
            .map_err(NftError::socket(attempted))?;
        let refused = |refusal| NftError::refused(attempted.to_owned(), refusal);
        refusals.first().map_or(Ok(()), |refusal| Err(refused(refusal)))
    }
}

/// Hears of every change of rules in one network namespace. Its descriptor becomes readable when one happened.
#[derive(Debug)]
pub struct Changes {
    transport: transport::Transport,
}

impl Changes {
    /// Starts to listen in a namespace.
    pub fn listen_in(namespace: &Namespace) -> Result<Self, NftError> {
        let open = || -> io::Result<transport::Transport> {
            let mut transport = transport::Transport::open(NETLINK_NETFILTER)?;
            transport.socket().add_membership(CHANGES)?;
            transport.socket().set_non_blocking(true)?;
            Ok(transport)
        };
        Ok(Self { transport: namespace.enter(open)?.map_err(NftError::Open)? })
    }

    /// Takes all news that wait, and returns whether there were any.
    pub fn take(&mut self) -> Result<bool, NftError> {
        let mut any = false;
        match self.transport.drain(|_| any = true) {
            // More news than fit: some were dropped, which is news as well.
            Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => Ok(true),
            Err(error) => Err(NftError::socket("hear of changes of packet rules")(error)),
            Ok(()) => Ok(any),
        }
    }
}

impl AsRawFd for Changes {
    fn as_raw_fd(&self) -> RawFd {
        self.transport.as_fd().as_raw_fd()
    }
}

impl AsFd for Changes {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.transport.as_fd()
    }
}

#[cfg(test)]
mod tests;
