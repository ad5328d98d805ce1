//! The stack file: five kinds of services in turn, with keys that both programs know.

use std::fmt::Write;

use swarm_tests::bench::Outcome;

const SERVICES: usize = 250;
const NETWORKS: usize = 10;
const LINES: usize = 5000;

const HEAD: &str = r#"# 250 services of one company, one file.
#
# front   what browsers meet
# api     what front asks
# worker  takes jobs of a queue
# db      one for each api
# agent   on every host
version: "3.8"
x-owners:
  front: web@example.org
  api: [web@example.org, platform@example.org]
  worker:
    - jobs@example.org
    - platform@example.org
  db: {mail: data@example.org, phone: "+49 30 1234"}
  agent: >-
    platform@example.org,
    or whoever is on call
x-environment: &environment
  LOG_LEVEL: ${LOG_LEVEL:-info}
  TZ: Europe/Berlin
  REGION: ${REGION:-eu-central-1}
x-labels: &labels
  org.example.owner: platform
  org.example.tier: "2"
x-restart: &restart
  condition: on-failure
  delay: 2s
  max_attempts: 5
  window: 2m
x-update: &update
  parallelism: 2
  delay: 10s
  order: start-first
x-resources: &resources
  limits: {cpus: "0.50", memory: 256M}
  reservations: {cpus: "0.05", memory: 64M}
services:
"#;

/// The file, always the same.
pub(crate) fn text() -> Outcome<String> {
    let mut text = HEAD.to_owned();
    for number in 0..SERVICES {
        let service = match number % 5 {
            0 => front(number),
            1 => api(number),
            2 => worker(number),
            3 => database(number),
            _ => agent(number),
        };
        text.push_str(&service);
    }
    text.push_str("networks:\n");
    for number in 0..NETWORKS {
        writeln!(text, "  net-{number}:")?;
    }
    text.push_str("volumes:\n");
    for number in (0..SERVICES).filter(|number| number % 5 == 3) {
        writeln!(text, "  data-{number}:")?;
    }
    let lines = text.lines().count();
    if lines == LINES { Ok(text) } else { Err(format!("{lines} lines, not {LINES}").into()) }
}

fn front(number: usize) -> String {
    let (port, net) = (20_000 + number, number % NETWORKS);
    format!(
        r#"  front-{number}:
    image: registry.example.org/front:${{FRONT_TAG:-2.{number}}}
    environment:
      <<: *environment
      BACKEND: http://api-{number}:8080
      GREETING: "costs 5$$, says {number}"
    labels: *labels
    ports:
      - "{port}:80"
      - target: 443
        published: {tls}
        mode: ingress
    networks:
      net-{net}:
        aliases: [front-{number}.example, www-{number}.example]
    deploy:
      replicas: 3
      update_config: *update
      resources: *resources
"#,
        tls = port + 10_000,
    )
}

fn api(number: usize) -> String {
    let (net, next) = (number % NETWORKS, (number + 1) % NETWORKS);
    format!(
        r#"  api-{number}:
    image: registry.example.org:5000/api/service-{number}:1.4.{number}
    command: ["serve", "--listen", "0.0.0.0:8080", "--workers", "4"]
    environment:
      - LOG_FORMAT=json
      - DATABASE_URL=postgres://db-{number}/api?sslmode=disable
      - FEATURE_FLAGS=${{FLAGS:-a,b,c}}
    user: "1000:1000"
    working_dir: /srv/api
    networks: [net-{net}, net-{next}]
    extra_hosts:
      - "mail.example.org:10.20.0.{host}"
    stop_grace_period: 30s
    deploy:
      replicas: ${{API_REPLICAS:-2}}
      restart_policy: *restart
      placement:
        constraints: [node.role == worker, node.labels.zone != edge]
        preferences:
          - spread: node.labels.rack
"#,
        host = 1 + number % 250,
    )
}

fn worker(number: usize) -> String {
    let net = number % NETWORKS;
    format!(
        r#"  # Takes jobs of queue {number}.
  worker-{number}:
    image: registry.example.org/worker:3.{number}
    entrypoint: /usr/bin/worker --queue 'jobs {number}' --verbose
    environment:
      <<: *environment
      QUEUE: jobs-{number}
      CONCURRENCY: 8
    init: true
    read_only: true
    cap_drop: [ALL]
    cap_add:
      - NET_BIND_SERVICE
    networks: [net-{net}]
    deploy:
      mode: replicated
      replicas: 4
      labels: {{org.example.queue: "{number}"}}
      resources: *resources
      restart_policy: *restart
"#
    )
}

fn database(number: usize) -> String {
    let net = number % NETWORKS;
    format!(
        r#"  db-{number}:
    image: postgres:16
    hostname: db-{number}
    environment:
      POSTGRES_USER: api
      POSTGRES_DB: api_{number}
    volumes:
      - data-{number}:/var/lib/postgresql/data
      - type: tmpfs
        target: /run/postgresql
    ulimits:
      nofile: {{soft: 20000, hard: 40000}}
      nproc: 4096
    sysctls:
      net.core.somaxconn: 1024
    networks: [net-{net}]
    deploy:
      placement: {{constraints: ["node.labels.disk == ssd"], max_replicas_per_node: 1}}
      resources: {{limits: {{cpus: "2.0", memory: 4G}}}}
"#
    )
}

fn agent(number: usize) -> String {
    let net = number % NETWORKS;
    format!(
        r#"  agent-{number}:
    image: registry.example.org/agent-{number}
    command: collect --interval 15s --output udp://sink:{port}
    volumes:
      - /var/log/host-{number}:/logs:ro
      - type: bind
        source: /etc/agent
        target: /etc/agent
        read_only: true
    environment: {{INTERVAL: 15s, DEBUG: "false"}}
    labels:
      - org.example.agent={number}
    stop_signal: SIGINT
    networks:
      net-{net}:
    deploy:
      mode: global
      endpoint_mode: dnsrr
      update_config: {{parallelism: 5, delay: 1s}}
      restart_policy: {{condition: any, delay: 5s}}
"#,
        port = 30_000 + number,
    )
}
