//! Where this host's programs listen and are reached: flags, kept in the programs' configuration.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::Path;

use super::configuration::{self, Edited};
use super::preflight::{Part, Ports};
use crate::failure::Failure;

/// Where this host's programs listen and are reached.
#[derive(Debug, Clone, Default, PartialEq, Eq, clap::Args)]
pub(crate) struct Places {
    /// The controller's port, 2377 if nothing else is set; written to /etc/swarm/controller.toml
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    port: Option<u16>,
    /// The agent's port, 2387 if nothing else is set; written to /etc/swarm/agent.toml
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    agent_port: Option<u16>,
    /// This host's address for the traffic between containers and agents, by default the one that leads to the
    /// controllers; written to /etc/swarm/agent.toml
    #[arg(long, value_name = "IP")]
    data_address: Option<Ipv4Addr>,
}

impl Places {
    /// Refuses what does not fit the part or this host.
    pub(crate) fn check(&self, part: Part) -> Result<(), Failure> {
        if part == Part::Agent && self.port.is_some() {
            let hint = "an agent's port is `--agent-port`";
            return Err(Failure::usage("`--port` is for controllers").hint(hint));
        }
        if self.port.is_some() && self.port == self.agent_port {
            let what = "`--port` and `--agent-port` are the same";
            return Err(Failure::usage(what).hint("give each program its own port"));
        }
        let Some(address) = self.data_address else { return Ok(()) };
        if address.is_unspecified() || address.is_loopback() || address.is_multicast() {
            let what = format!("other hosts do not reach `--data-address {address}`");
            return Err(Failure::usage(what).hint("give an address of one of this host's links"));
        }
        // Only an own address can be bound.
        UdpSocket::bind((address, 0)).map(drop).map_err(|error| {
            Failure::because(format!("this host has no address {address}"), &error)
                .hint("`ip address` shows which it has")
        })
    }

    /// The ports with these flags, those of the configuration where there is none, else the default ones.
    pub(crate) fn ports(&self, folder: &Path) -> Result<Ports, Failure> {
        let mut ports = Ports::default();
        let listen = listen(&folder.join("controller.toml"))?;
        ports.controller = self.port.or_else(|| Some(listen?.port())).unwrap_or(ports.controller);
        let agent = configuration::read(&folder.join("agent.toml"))?;
        let agent = agent.get("port").and_then(toml::Value::as_integer);
        let agent = agent.and_then(|port| u16::try_from(port).ok());
        ports.agent = self.agent_port.or(agent).unwrap_or(ports.agent);
        Ok(ports)
    }

    /// Writes what was asked for into the configuration.
    pub(crate) fn write(&self, folder: &Path) -> Result<Vec<Edited>, Failure> {
        let mut edited = Vec::new();
        if let Some(port) = self.port {
            let path = folder.join("controller.toml");
            let ip = listen(&path)?.map_or(Ipv4Addr::UNSPECIFIED.into(), |listen| listen.ip());
            let value = SocketAddr::new(ip, port).to_string().into();
            edited.push(configuration::edit(&path, &[("listen", value)])?);
        }
        let mut agent = Vec::new();
        agent.extend(self.agent_port.map(|port| ("port", i64::from(port).into())));
        let address = self.data_address.map(|address| address.to_string());
        agent.extend(address.map(|address| ("advertise_address", address.into())));
        if !agent.is_empty() {
            edited.push(configuration::edit(&folder.join("agent.toml"), &agent)?);
        }
        Ok(edited)
    }
}

/// Where the controller listens, when its configuration says so.
fn listen(path: &Path) -> Result<Option<SocketAddr>, Failure> {
    let settings = configuration::read(path)?;
    Ok(settings.get("listen").and_then(|listen| listen.as_str()?.parse().ok()))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::failure::Code;

    #[test]
    fn flags_go_into_the_configuration_and_come_before_it() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        assert_eq!(Places::default().ports(folder).unwrap(), Ports::default());
        assert!(Places::default().write(folder).unwrap().is_empty());
        fs::write(folder.join("controller.toml"), "listen = \"127.0.0.1:5\"\n").unwrap();
        let places = Places { port: Some(6), agent_port: Some(7), data_address: None };
        let expected = Ports { controller: 6, agent: 7, ..Ports::default() };
        assert_eq!(places.ports(folder).unwrap(), expected);
        places.write(folder).unwrap().into_iter().for_each(Edited::keep);
        let text = fs::read_to_string(folder.join("controller.toml")).unwrap();
        assert_eq!(text, "listen = \"127.0.0.1:6\"\n");
        assert_eq!(Places::default().ports(folder).unwrap(), expected);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let port = Places { port: Some(1), ..Places::default() };
        assert_eq!(port.check(Part::Agent).unwrap_err().code, Code::Usage);
        let same = Places { agent_port: Some(1), ..port };
        assert_eq!(same.check(Part::Controller).unwrap_err().code, Code::Usage);
        let at =
            |address: [u8; 4]| Places { data_address: Some(address.into()), ..Places::default() };
        assert_eq!(at([0, 0, 0, 0]).check(Part::Agent).unwrap_err().code, Code::Usage);
        // TEST-NET-1 is nobody's.
        let strange = at([192, 0, 2, 1]).check(Part::Agent).unwrap_err();
        assert_eq!(strange.code, Code::Refused);
        assert!(strange.message.starts_with("this host has no address 192.0.2.1"), "{strange:?}");
    }
}
