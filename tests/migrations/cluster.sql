-- What `alembic upgrade head --sql` prints on a cluster named main: each table's local form and the distributed one over it.

CREATE DATABASE IF NOT EXISTS netra_traces ON CLUSTER main;

CREATE TABLE IF NOT EXISTS netra_traces.alembic_version_log ON CLUSTER main (
version_num String,
is_head UInt8,
change UInt64
) ENGINE = ReplicatedReplacingMergeTree('/clickhouse/tables/netra_traces/alembic_version_log', '{shard}-{replica}', change)
ORDER BY version_num;

CREATE VIEW IF NOT EXISTS netra_traces.alembic_version ON CLUSTER main AS SELECT version_num FROM netra_traces.alembic_version_log FINAL WHERE is_head = 1;

CREATE TABLE netra_traces.agent_events_local ON CLUSTER main (
event_id String CODEC(ZSTD(1)),
trace_id String CODEC(ZSTD(1)),
execution_id String CODEC(ZSTD(1)),
correlation_id String CODEC(ZSTD(1)),
user_id String CODEC(ZSTD(1)),
timestamp DateTime64(3, 'UTC') CODEC(Delta(8), ZSTD(1)),
event_type Enum8('agent_started' = 1, 'agent_thinking' = 2, 'tool_executing' = 3, 'tool_completed' = 4, 'agent_completed' = 5, 'websocket_sent' = 6, 'websocket_received' = 7, 'error_occurred' = 8, 'custom' = 9),
event_name LowCardinality(String),
event_category LowCardinality(String),
event_payload String DEFAULT '{}' CODEC(ZSTD(3)),
tool_name LowCardinality(Nullable(String)),
tool_input Nullable(String) CODEC(ZSTD(3)),
tool_output Nullable(String) CODEC(ZSTD(3)),
duration_ms Nullable(Float64) CODEC(Gorilla(8), ZSTD(1)),
sequence_number UInt32 CODEC(T64, ZSTD(1)),
session_id String CODEC(ZSTD(1)),
client_id String CODEC(ZSTD(1)),
metadata String DEFAULT '{}' CODEC(ZSTD(3)),
created_at DateTime64(3, 'UTC') CODEC(DoubleDelta, ZSTD(1)),
batch_id UUID CODEC(ZSTD(1))
) ENGINE = ReplicatedMergeTree('/clickhouse/tables/{shard}/netra_traces/agent_events_local', '{replica}')
PARTITION BY toYYYYMM(created_at)
ORDER BY (trace_id, timestamp, sequence_number)
TTL toDate(created_at) + toIntervalDay(60)
SETTINGS replicated_deduplication_window = 10000, replicated_deduplication_window_seconds = 604800;

CREATE TABLE netra_traces.agent_events ON CLUSTER main AS netra_traces.agent_events_local ENGINE = Distributed('main', 'netra_traces', 'agent_events_local', cityHash64(user_id));

ALTER TABLE netra_traces.agent_events_local ON CLUSTER main ADD INDEX ix_correlation_id correlation_id TYPE bloom_filter(0.01) GRANULARITY 4;

ALTER TABLE netra_traces.agent_events_local ON CLUSTER main ADD INDEX ix_execution_id execution_id TYPE bloom_filter(0.01) GRANULARITY 4;

ALTER TABLE netra_traces.agent_events_local ON CLUSTER main ADD INDEX ix_session_id session_id TYPE bloom_filter(0.01) GRANULARITY 4;

ALTER TABLE netra_traces.agent_events_local ON CLUSTER main ADD INDEX ix_timestamp timestamp TYPE minmax GRANULARITY 1;

ALTER TABLE netra_traces.agent_events_local ON CLUSTER main ADD INDEX ix_user_id user_id TYPE bloom_filter(0.01) GRANULARITY 4;

CREATE TABLE netra_traces.agent_executions_local ON CLUSTER main (
trace_id String CODEC(ZSTD(1)),
execution_id String CODEC(ZSTD(1)),
correlation_id String CODEC(ZSTD(1)),
user_id String CODEC(ZSTD(1)),
organization_id String CODEC(ZSTD(1)),
agent_type LowCardinality(String),
agent_name LowCardinality(String),
agent_version LowCardinality(String),
parent_agent_id String CODEC(ZSTD(1)),
status Enum8('pending' = 1, 'running' = 2, 'completed' = 3, 'failed' = 4, 'cancelled' = 5),
start_time DateTime64(3, 'UTC') CODEC(Delta(8), ZSTD(1)),
end_time Nullable(DateTime64(3, 'UTC')) CODEC(Delta(8), ZSTD(1)),
duration_ms Float64 CODEC(Gorilla(8), ZSTD(1)),
request_payload String DEFAULT '{}' CODEC(ZSTD(3)),
response_payload String DEFAULT '{}' CODEC(ZSTD(3)),
error_message Nullable(String) CODEC(ZSTD(3)),
error_stack Nullable(String) CODEC(ZSTD(3)),
cpu_time_ms Float64 CODEC(Gorilla(8), ZSTD(1)),
memory_mb Float64 CODEC(Gorilla(8), ZSTD(1)),
token_count UInt64 CODEC(T64, ZSTD(1)),
tool_calls_count UInt64 CODEC(T64, ZSTD(1)),
environment LowCardinality(String),
service_version LowCardinality(String),
metadata String DEFAULT '{}' CODEC(ZSTD(3)),
tags Array(LowCardinality(String)) CODEC(ZSTD(1)),
created_at DateTime64(3, 'UTC') CODEC(DoubleDelta, ZSTD(1)),
batch_id UUID CODEC(ZSTD(1))
) ENGINE = ReplicatedMergeTree('/clickhouse/tables/{shard}/netra_traces/agent_executions_local', '{replica}')
PARTITION BY toYYYYMM(created_at)
ORDER BY (trace_id, start_time)
TTL toDate(created_at) + toIntervalDay(90)
SETTINGS replicated_deduplication_window = 10000, replicated_deduplication_window_seconds = 604800;

CREATE TABLE netra_traces.agent_executions ON CLUSTER main AS netra_traces.agent_executions_local ENGINE = Distributed('main', 'netra_traces', 'agent_executions_local', cityHash64(user_id));

ALTER TABLE netra_traces.agent_executions_local ON CLUSTER main ADD INDEX ix_correlation_id correlation_id TYPE bloom_filter(0.01) GRANULARITY 4;

ALTER TABLE netra_traces.agent_executions_local ON CLUSTER main ADD INDEX ix_execution_id execution_id TYPE bloom_filter(0.01) GRANULARITY 4;

ALTER TABLE netra_traces.agent_executions_local ON CLUSTER main ADD INDEX ix_organization_id organization_id TYPE bloom_filter(0.01) GRANULARITY 4;

ALTER TABLE netra_traces.agent_executions_local ON CLUSTER main ADD INDEX ix_parent_agent_id parent_agent_id TYPE bloom_filter(0.01) GRANULARITY 4;

ALTER TABLE netra_traces.agent_executions_local ON CLUSTER main ADD INDEX ix_start_time start_time TYPE minmax GRANULARITY 1;

ALTER TABLE netra_traces.agent_executions_local ON CLUSTER main ADD INDEX ix_user_id user_id TYPE bloom_filter(0.01) GRANULARITY 4;

CREATE TABLE netra_traces.agent_interactions_local ON CLUSTER main (
day Date,
parent_agent_type LowCardinality(String),
child_agent_type LowCardinality(String),
relationship_type Enum8('parent_child' = 1, 'sibling' = 2, 'dependency' = 3, 'triggered_by' = 4, 'related' = 5),
interaction_count SimpleAggregateFunction(sum, UInt64),
avg_overlap_ms AggregateFunction(avg, Float64),
max_depth_level SimpleAggregateFunction(max, UInt32),
created_on Date
) ENGINE = ReplicatedAggregatingMergeTree('/clickhouse/tables/{shard}/netra_traces/agent_interactions_local', '{replica}')
ORDER BY (day, parent_agent_type, child_agent_type, relationship_type, created_on)
TTL created_on + toIntervalDay(60)
SETTINGS replicated_deduplication_window = 10000, replicated_deduplication_window_seconds = 604800;

CREATE TABLE netra_traces.agent_interactions ON CLUSTER main AS netra_traces.agent_interactions_local ENGINE = Distributed('main', 'netra_traces', 'agent_interactions_local', cityHash64(day));

CREATE TABLE netra_traces.error_logs_local ON CLUSTER main (
error_id String CODEC(ZSTD(1)),
trace_id String CODEC(ZSTD(1)),
execution_id String CODEC(ZSTD(1)),
user_id String CODEC(ZSTD(1)),
timestamp DateTime64(3, 'UTC') CODEC(Delta(8), ZSTD(1)),
error_type Enum8('validation' = 1, 'authentication' = 2, 'authorization' = 3, 'network' = 4, 'database' = 5, 'llm' = 6, 'tool' = 7, 'timeout' = 8, 'rate_limit' = 9, 'system' = 10, 'unknown' = 11),
error_code LowCardinality(String),
error_category LowCardinality(String),
severity Enum8('debug' = 1, 'info' = 2, 'warning' = 3, 'error' = 4, 'critical' = 5),
error_message String CODEC(ZSTD(3)),
error_stack String CODEC(ZSTD(3)),
error_context String DEFAULT '{}' CODEC(ZSTD(3)),
service_name LowCardinality(String),
component_name LowCardinality(String),
function_name String CODEC(ZSTD(3)),
file_path String CODEC(ZSTD(3)),
line_number UInt32 CODEC(T64, ZSTD(1)),
is_recoverable Bool,
retry_count UInt32 CODEC(T64, ZSTD(1)),
max_retries UInt32 CODEC(T64, ZSTD(1)),
recovery_action LowCardinality(String),
affected_users UInt64 CODEC(T64, ZSTD(1)),
affected_features Array(LowCardinality(String)) CODEC(ZSTD(1)),
business_impact LowCardinality(String),
environment LowCardinality(String),
version LowCardinality(String),
metadata String DEFAULT '{}' CODEC(ZSTD(3)),
tags Array(LowCardinality(String)) CODEC(ZSTD(1)),
created_at DateTime64(3, 'UTC') CODEC(DoubleDelta, ZSTD(1)),
batch_id UUID CODEC(ZSTD(1))
) ENGINE = ReplicatedMergeTree('/clickhouse/tables/{shard}/netra_traces/error_logs_local', '{replica}')
PARTITION BY toYYYYMM(created_at)
ORDER BY (trace_id, timestamp, severity)
TTL toDate(created_at) + toIntervalDay(90)
SETTINGS replicated_deduplication_window = 10000, replicated_deduplication_window_seconds = 604800;

CREATE TABLE netra_traces.error_logs ON CLUSTER main AS netra_traces.error_logs_local ENGINE = Distributed('main', 'netra_traces', 'error_logs_local', cityHash64(user_id));

ALTER TABLE netra_traces.error_logs_local ON CLUSTER main ADD INDEX ix_execution_id execution_id TYPE bloom_filter(0.01) GRANULARITY 4;

ALTER TABLE netra_traces.error_logs_local ON CLUSTER main ADD INDEX ix_timestamp timestamp TYPE minmax GRANULARITY 1;

ALTER TABLE netra_traces.error_logs_local ON CLUSTER main ADD INDEX ix_user_id user_id TYPE bloom_filter(0.01) GRANULARITY 4;

CREATE TABLE netra_traces.error_patterns_local ON CLUSTER main (
day Date,
error_type Enum8('validation' = 1, 'authentication' = 2, 'authorization' = 3, 'network' = 4, 'database' = 5, 'llm' = 6, 'tool' = 7, 'timeout' = 8, 'rate_limit' = 9, 'system' = 10, 'unknown' = 11),
error_code LowCardinality(String),
error_category LowCardinality(String),
severity Enum8('debug' = 1, 'info' = 2, 'warning' = 3, 'error' = 4, 'critical' = 5),
error_count SimpleAggregateFunction(sum, UInt64),
unique_users AggregateFunction(uniqExact, String),
unique_traces AggregateFunction(uniqExact, String),
sample_message AggregateFunction(argMin, String, Tuple(DateTime64(3, 'UTC'), String)),
created_on Date
) ENGINE = ReplicatedAggregatingMergeTree('/clickhouse/tables/{shard}/netra_traces/error_patterns_local', '{replica}')
ORDER BY (day, error_type, error_code, error_category, severity, created_on)
TTL created_on + toIntervalDay(90)
SETTINGS replicated_deduplication_window = 10000, replicated_deduplication_window_seconds = 604800;

CREATE TABLE netra_traces.error_patterns ON CLUSTER main AS netra_traces.error_patterns_local ENGINE = Distributed('main', 'netra_traces', 'error_patterns_local', cityHash64(day));

CREATE TABLE netra_traces.performance_metrics_local ON CLUSTER main (
trace_id String CODEC(ZSTD(1)),
user_id String CODEC(ZSTD(1)),
metric_type Enum8('latency' = 1, 'throughput' = 2, 'resource' = 3, 'llm' = 4, 'database' = 5, 'network' = 6, 'custom' = 7),
metric_id String CODEC(ZSTD(1)),
execution_id String CODEC(ZSTD(1)),
timestamp DateTime64(3, 'UTC') CODEC(Delta(8), ZSTD(1)),
metric_name LowCardinality(String),
metric_category LowCardinality(String),
value Float64 CODEC(Gorilla(8), ZSTD(1)),
unit LowCardinality(String),
total_time_ms Float64 CODEC(Gorilla(8), ZSTD(1)),
llm_time_ms Float64 CODEC(Gorilla(8), ZSTD(1)),
tool_time_ms Float64 CODEC(Gorilla(8), ZSTD(1)),
database_time_ms Float64 CODEC(Gorilla(8), ZSTD(1)),
network_time_ms Float64 CODEC(Gorilla(8), ZSTD(1)),
processing_time_ms Float64 CODEC(Gorilla(8), ZSTD(1)),
cpu_percent Float64 CODEC(Gorilla(8), ZSTD(1)),
memory_mb Float64 CODEC(Gorilla(8), ZSTD(1)),
disk_io_mb Float64 CODEC(Gorilla(8), ZSTD(1)),
network_io_mb Float64 CODEC(Gorilla(8), ZSTD(1)),
prompt_tokens UInt64 CODEC(T64, ZSTD(1)),
completion_tokens UInt64 CODEC(T64, ZSTD(1)),
total_tokens UInt64 CODEC(T64, ZSTD(1)),
model_name LowCardinality(String),
operation_name LowCardinality(String),
component_name LowCardinality(String),
metadata String DEFAULT '{}' CODEC(ZSTD(3)),
created_at DateTime64(3, 'UTC') CODEC(DoubleDelta, ZSTD(1)),
batch_id UUID CODEC(ZSTD(1))
) ENGINE = ReplicatedMergeTree('/clickhouse/tables/{shard}/netra_traces/performance_metrics_local', '{replica}')
PARTITION BY toMonday(created_at)
ORDER BY (trace_id, timestamp, metric_type)
TTL toDate(created_at) + toIntervalDay(30)
SETTINGS replicated_deduplication_window = 10000, replicated_deduplication_window_seconds = 604800;

CREATE TABLE netra_traces.performance_metrics ON CLUSTER main AS netra_traces.performance_metrics_local ENGINE = Distributed('main', 'netra_traces', 'performance_metrics_local', cityHash64(user_id));

ALTER TABLE netra_traces.performance_metrics_local ON CLUSTER main ADD INDEX ix_execution_id execution_id TYPE bloom_filter(0.01) GRANULARITY 4;

ALTER TABLE netra_traces.performance_metrics_local ON CLUSTER main ADD INDEX ix_timestamp timestamp TYPE minmax GRANULARITY 1;

ALTER TABLE netra_traces.performance_metrics_local ON CLUSTER main ADD INDEX ix_user_id user_id TYPE bloom_filter(0.01) GRANULARITY 4;

CREATE TABLE netra_traces.performance_trends_local ON CLUSTER main (
day Date,
hour UInt8,
metric_type Enum8('latency' = 1, 'throughput' = 2, 'resource' = 3, 'llm' = 4, 'database' = 5, 'network' = 6, 'custom' = 7),
component_name LowCardinality(String),
metric_count SimpleAggregateFunction(sum, UInt64),
avg_value AggregateFunction(avg, Float64),
value_percentiles AggregateFunction(quantilesExact(0.5, 0.95, 0.99), Float64),
max_value SimpleAggregateFunction(max, Float64),
created_on Date
) ENGINE = ReplicatedAggregatingMergeTree('/clickhouse/tables/{shard}/netra_traces/performance_trends_local', '{replica}')
ORDER BY (day, hour, metric_type, component_name, created_on)
TTL created_on + toIntervalDay(30)
SETTINGS replicated_deduplication_window = 10000, replicated_deduplication_window_seconds = 604800;

CREATE TABLE netra_traces.performance_trends ON CLUSTER main AS netra_traces.performance_trends_local ENGINE = Distributed('main', 'netra_traces', 'performance_trends_local', cityHash64(day));

CREATE TABLE netra_traces.trace_correlations_local ON CLUSTER main (
correlation_id String CODEC(ZSTD(1)),
parent_trace_id String CODEC(ZSTD(1)),
child_trace_id String CODEC(ZSTD(1)),
timestamp DateTime64(3, 'UTC') CODEC(Delta(8), ZSTD(1)),
relationship_type Enum8('parent_child' = 1, 'sibling' = 2, 'dependency' = 3, 'triggered_by' = 4, 'related' = 5),
relationship_name LowCardinality(String),
parent_agent_type LowCardinality(String),
child_agent_type LowCardinality(String),
depth_level UInt32 CODEC(T64, ZSTD(1)),
parent_start_time DateTime64(3, 'UTC') CODEC(Delta(8), ZSTD(1)),
child_start_time DateTime64(3, 'UTC') CODEC(Delta(8), ZSTD(1)),
overlap_duration_ms Float64 CODEC(Gorilla(8), ZSTD(1)),
context String DEFAULT '{}' CODEC(ZSTD(3)),
tags Array(LowCardinality(String)) CODEC(ZSTD(1)),
created_at DateTime64(3, 'UTC') CODEC(DoubleDelta, ZSTD(1)),
batch_id UUID CODEC(ZSTD(1))
) ENGINE = ReplicatedMergeTree('/clickhouse/tables/{shard}/netra_traces/trace_correlations_local', '{replica}')
PARTITION BY toYYYYMM(created_at)
ORDER BY (parent_trace_id, child_trace_id)
TTL toDate(created_at) + toIntervalDay(60)
SETTINGS replicated_deduplication_window = 10000, replicated_deduplication_window_seconds = 604800;

CREATE TABLE netra_traces.trace_correlations ON CLUSTER main AS netra_traces.trace_correlations_local ENGINE = Distributed('main', 'netra_traces', 'trace_correlations_local', cityHash64(parent_trace_id));

ALTER TABLE netra_traces.trace_correlations_local ON CLUSTER main ADD INDEX ix_child_trace_id child_trace_id TYPE bloom_filter(0.01) GRANULARITY 4;

ALTER TABLE netra_traces.trace_correlations_local ON CLUSTER main ADD INDEX ix_correlation_id correlation_id TYPE bloom_filter(0.01) GRANULARITY 4;

ALTER TABLE netra_traces.trace_correlations_local ON CLUSTER main ADD INDEX ix_timestamp timestamp TYPE minmax GRANULARITY 1;

CREATE TABLE netra_traces.user_execution_summary_local ON CLUSTER main (
user_id String CODEC(ZSTD(1)),
day Date,
agent_type LowCardinality(String),
execution_count SimpleAggregateFunction(sum, UInt64),
avg_duration_ms AggregateFunction(avg, Float64),
max_duration_ms SimpleAggregateFunction(max, Float64),
min_duration_ms SimpleAggregateFunction(min, Float64),
total_tokens SimpleAggregateFunction(sum, UInt64),
total_tool_calls SimpleAggregateFunction(sum, UInt64),
completed_count SimpleAggregateFunction(sum, UInt64),
failed_count SimpleAggregateFunction(sum, UInt64),
created_on Date
) ENGINE = ReplicatedAggregatingMergeTree('/clickhouse/tables/{shard}/netra_traces/user_execution_summary_local', '{replica}')
ORDER BY (user_id, day, agent_type, created_on)
TTL created_on + toIntervalDay(90)
SETTINGS replicated_deduplication_window = 10000, replicated_deduplication_window_seconds = 604800;

CREATE TABLE netra_traces.user_execution_summary ON CLUSTER main AS netra_traces.user_execution_summary_local ENGINE = Distributed('main', 'netra_traces', 'user_execution_summary_local', cityHash64(user_id));

CREATE MATERIALIZED VIEW netra_traces.mv_user_execution_summary ON CLUSTER main TO netra_traces.user_execution_summary_local AS
SELECT netra_traces.agent_executions_local.user_id AS user_id, toDate(netra_traces.agent_executions_local.start_time) AS day, netra_traces.agent_executions_local.agent_type AS agent_type, toDate(netra_traces.agent_executions_local.created_at) AS created_on, count(*) AS execution_count, avgState(netra_traces.agent_executions_local.duration_ms) AS avg_duration_ms, max(netra_traces.agent_executions_local.duration_ms) AS max_duration_ms, min(netra_traces.agent_executions_local.duration_ms) AS min_duration_ms, sum(netra_traces.agent_executions_local.token_count) AS total_tokens, sum(netra_traces.agent_executions_local.tool_calls_count) AS total_tool_calls, countIf(netra_traces.agent_executions_local.status = 'completed') AS completed_count, countIf(netra_traces.agent_executions_local.status = 'failed') AS failed_count
FROM netra_traces.agent_executions_local GROUP BY netra_traces.agent_executions_local.user_id, toDate(netra_traces.agent_executions_local.start_time), netra_traces.agent_executions_local.agent_type, toDate(netra_traces.agent_executions_local.created_at);

CREATE MATERIALIZED VIEW netra_traces.mv_error_patterns ON CLUSTER main TO netra_traces.error_patterns_local AS
SELECT toDate(netra_traces.error_logs_local.timestamp) AS day, netra_traces.error_logs_local.error_type AS error_type, netra_traces.error_logs_local.error_code AS error_code, netra_traces.error_logs_local.error_category AS error_category, netra_traces.error_logs_local.severity AS severity, toDate(netra_traces.error_logs_local.created_at) AS created_on, count(*) AS error_count, uniqExactState(netra_traces.error_logs_local.user_id) AS unique_users, uniqExactState(netra_traces.error_logs_local.trace_id) AS unique_traces, argMinState(netra_traces.error_logs_local.error_message, tuple(netra_traces.error_logs_local.timestamp, netra_traces.error_logs_local.error_id)) AS sample_message
FROM netra_traces.error_logs_local GROUP BY toDate(netra_traces.error_logs_local.timestamp), netra_traces.error_logs_local.error_type, netra_traces.error_logs_local.error_code, netra_traces.error_logs_local.error_category, netra_traces.error_logs_local.severity, toDate(netra_traces.error_logs_local.created_at);

CREATE MATERIALIZED VIEW netra_traces.mv_performance_trends ON CLUSTER main TO netra_traces.performance_trends_local AS
SELECT toDate(netra_traces.performance_metrics_local.timestamp) AS day, toHour(netra_traces.performance_metrics_local.timestamp) AS hour, netra_traces.performance_metrics_local.metric_type AS metric_type, netra_traces.performance_metrics_local.component_name AS component_name, toDate(netra_traces.performance_metrics_local.created_at) AS created_on, count(*) AS metric_count, avgState(netra_traces.performance_metrics_local.value) AS avg_value, quantilesExactState(0.5, 0.95, 0.99)(netra_traces.performance_metrics_local.value) AS value_percentiles, max(netra_traces.performance_metrics_local.value) AS max_value
FROM netra_traces.performance_metrics_local GROUP BY toDate(netra_traces.performance_metrics_local.timestamp), toHour(netra_traces.performance_metrics_local.timestamp), netra_traces.performance_metrics_local.metric_type, netra_traces.performance_metrics_local.component_name, toDate(netra_traces.performance_metrics_local.created_at);

CREATE MATERIALIZED VIEW netra_traces.mv_agent_interactions ON CLUSTER main TO netra_traces.agent_interactions_local AS
SELECT toDate(netra_traces.trace_correlations_local.timestamp) AS day, netra_traces.trace_correlations_local.parent_agent_type AS parent_agent_type, netra_traces.trace_correlations_local.child_agent_type AS child_agent_type, netra_traces.trace_correlations_local.relationship_type AS relationship_type, toDate(netra_traces.trace_correlations_local.created_at) AS created_on, count(*) AS interaction_count, avgState(netra_traces.trace_correlations_local.overlap_duration_ms) AS avg_overlap_ms, max(netra_traces.trace_correlations_local.depth_level) AS max_depth_level
FROM netra_traces.trace_correlations_local GROUP BY toDate(netra_traces.trace_correlations_local.timestamp), netra_traces.trace_correlations_local.parent_agent_type, netra_traces.trace_correlations_local.child_agent_type, netra_traces.trace_correlations_local.relationship_type, toDate(netra_traces.trace_correlations_local.created_at);

INSERT INTO netra_traces.alembic_version_log (version_num, is_head, change) SELECT pair.1, pair.2, (SELECT max(change) + 1 FROM netra_traces.alembic_version_log) FROM (SELECT arrayJoin([('0001', 1)]) AS pair);

CREATE DATABASE IF NOT EXISTS netra_analytics ON CLUSTER main;

CREATE TABLE IF NOT EXISTS netra_analytics.alembic_version_log ON CLUSTER main (
version_num String,
is_head UInt8,
change UInt64
) ENGINE = ReplicatedReplacingMergeTree('/clickhouse/tables/netra_analytics/alembic_version_log', '{shard}-{replica}', change)
ORDER BY version_num;

CREATE VIEW IF NOT EXISTS netra_analytics.alembic_version ON CLUSTER main AS SELECT version_num FROM netra_analytics.alembic_version_log FINAL WHERE is_head = 1;

CREATE TABLE netra_analytics.error_analytics_local ON CLUSTER main (
error_id String CODEC(ZSTD(1)),
user_id String CODEC(ZSTD(1)),
trace_id String CODEC(ZSTD(1)),
timestamp DateTime64(3, 'UTC') CODEC(Delta(8), ZSTD(1)),
error_type LowCardinality(String),
error_code LowCardinality(String),
error_message String CODEC(ZSTD(3)),
severity Enum8('debug' = 1, 'info' = 2, 'warning' = 3, 'error' = 4, 'critical' = 5) DEFAULT 'error',
service_name LowCardinality(String),
component_name LowCardinality(String),
function_name String CODEC(ZSTD(3)),
metadata String DEFAULT '{}' CODEC(ZSTD(3)),
created_at DateTime64(3, 'UTC') CODEC(DoubleDelta, ZSTD(1)),
batch_id UUID CODEC(ZSTD(1))
) ENGINE = ReplicatedMergeTree('/clickhouse/tables/{shard}/netra_analytics/error_analytics_local', '{replica}')
PARTITION BY toMonday(created_at)
ORDER BY (user_id, timestamp, error_type)
TTL toDate(created_at) + toIntervalDay(30)
SETTINGS replicated_deduplication_window = 10000, replicated_deduplication_window_seconds = 604800;

CREATE TABLE netra_analytics.error_analytics ON CLUSTER main AS netra_analytics.error_analytics_local ENGINE = Distributed('main', 'netra_analytics', 'error_analytics_local', cityHash64(user_id));

ALTER TABLE netra_analytics.error_analytics_local ON CLUSTER main ADD INDEX ix_timestamp timestamp TYPE minmax GRANULARITY 1;

ALTER TABLE netra_analytics.error_analytics_local ON CLUSTER main ADD INDEX ix_trace_id trace_id TYPE bloom_filter(0.01) GRANULARITY 4;

CREATE TABLE netra_analytics.events_local ON CLUSTER main (
event_id String CODEC(ZSTD(1)),
user_id String CODEC(ZSTD(1)),
session_id String CODEC(ZSTD(1)),
timestamp DateTime64(3, 'UTC') CODEC(Delta(8), ZSTD(1)),
event_type LowCardinality(String),
event_name LowCardinality(String),
event_category LowCardinality(String),
data String DEFAULT '{}' CODEC(ZSTD(3)),
created_at DateTime64(3, 'UTC') CODEC(DoubleDelta, ZSTD(1)),
batch_id UUID CODEC(ZSTD(1))
) ENGINE = ReplicatedMergeTree('/clickhouse/tables/{shard}/netra_analytics/events_local', '{replica}')
PARTITION BY toYYYYMM(created_at)
ORDER BY (user_id, timestamp, event_type)
TTL toDate(created_at) + toIntervalDay(90)
SETTINGS replicated_deduplication_window = 10000, replicated_deduplication_window_seconds = 604800;

CREATE TABLE netra_analytics.events ON CLUSTER main AS netra_analytics.events_local ENGINE = Distributed('main', 'netra_analytics', 'events_local', cityHash64(user_id));

ALTER TABLE netra_analytics.events_local ON CLUSTER main ADD INDEX ix_session_id session_id TYPE bloom_filter(0.01) GRANULARITY 4;

ALTER TABLE netra_analytics.events_local ON CLUSTER main ADD INDEX ix_timestamp timestamp TYPE minmax GRANULARITY 1;

CREATE TABLE netra_analytics.performance_metrics_local ON CLUSTER main (
user_id String CODEC(ZSTD(1)),
trace_id String CODEC(ZSTD(1)),
metric_type LowCardinality(String),
metric_id String CODEC(ZSTD(1)),
execution_id String CODEC(ZSTD(1)),
timestamp DateTime64(3, 'UTC') CODEC(Delta(8), ZSTD(1)),
metric_name LowCardinality(String),
metric_category LowCardinality(String),
value Float64 CODEC(Gorilla(8), ZSTD(1)),
unit LowCardinality(String),
total_time_ms Float64 CODEC(Gorilla(8), ZSTD(1)),
llm_time_ms Float64 CODEC(Gorilla(8), ZSTD(1)),
tool_time_ms Float64 CODEC(Gorilla(8), ZSTD(1)),
database_time_ms Float64 CODEC(Gorilla(8), ZSTD(1)),
network_time_ms Float64 CODEC(Gorilla(8), ZSTD(1)),
processing_time_ms Float64 CODEC(Gorilla(8), ZSTD(1)),
cpu_percent Float64 CODEC(Gorilla(8), ZSTD(1)),
memory_mb Float64 CODEC(Gorilla(8), ZSTD(1)),
disk_io_mb Float64 CODEC(Gorilla(8), ZSTD(1)),
network_io_mb Float64 CODEC(Gorilla(8), ZSTD(1)),
prompt_tokens UInt64 CODEC(T64, ZSTD(1)),
completion_tokens UInt64 CODEC(T64, ZSTD(1)),
total_tokens UInt64 CODEC(T64, ZSTD(1)),
model_name LowCardinality(String),
operation_name LowCardinality(String),
component_name LowCardinality(String),
metadata String DEFAULT '{}' CODEC(ZSTD(3)),
created_at DateTime64(3, 'UTC') CODEC(DoubleDelta, ZSTD(1)),
batch_id UUID CODEC(ZSTD(1))
) ENGINE = ReplicatedMergeTree('/clickhouse/tables/{shard}/netra_analytics/performance_metrics_local', '{replica}')
PARTITION BY toMonday(created_at)
ORDER BY (user_id, timestamp, metric_type)
TTL toDate(created_at) + toIntervalDay(30)
SETTINGS replicated_deduplication_window = 10000, replicated_deduplication_window_seconds = 604800;

CREATE TABLE netra_analytics.performance_metrics ON CLUSTER main AS netra_analytics.performance_metrics_local ENGINE = Distributed('main', 'netra_analytics', 'performance_metrics_local', cityHash64(user_id));

ALTER TABLE netra_analytics.performance_metrics_local ON CLUSTER main ADD INDEX ix_execution_id execution_id TYPE bloom_filter(0.01) GRANULARITY 4;

ALTER TABLE netra_analytics.performance_metrics_local ON CLUSTER main ADD INDEX ix_timestamp timestamp TYPE minmax GRANULARITY 1;

ALTER TABLE netra_analytics.performance_metrics_local ON CLUSTER main ADD INDEX ix_trace_id trace_id TYPE bloom_filter(0.01) GRANULARITY 4;

CREATE TABLE netra_analytics.system_health_metrics_local ON CLUSTER main (
metric_id String CODEC(ZSTD(1)),
service_name LowCardinality(String),
instance_id LowCardinality(String),
timestamp DateTime64(3, 'UTC') CODEC(Delta(8), ZSTD(1)),
status Enum8('healthy' = 1, 'degraded' = 2, 'unhealthy' = 3),
health_score Float64 CODEC(Gorilla(8), ZSTD(1)),
cpu_usage Float64 CODEC(Gorilla(8), ZSTD(1)),
memory_usage Float64 CODEC(Gorilla(8), ZSTD(1)),
disk_usage Float64 CODEC(Gorilla(8), ZSTD(1)),
network_latency Float64 CODEC(Gorilla(8), ZSTD(1)),
request_rate Float64 CODEC(Gorilla(8), ZSTD(1)),
error_rate Float64 CODEC(Gorilla(8), ZSTD(1)),
success_rate Float64 CODEC(Gorilla(8), ZSTD(1)),
avg_response_time Float64 CODEC(Gorilla(8), ZSTD(1)),
metadata String DEFAULT '{}' CODEC(ZSTD(3)),
created_at DateTime64(3, 'UTC') CODEC(DoubleDelta, ZSTD(1)),
batch_id UUID CODEC(ZSTD(1))
) ENGINE = ReplicatedMergeTree('/clickhouse/tables/{shard}/netra_analytics/system_health_metrics_local', '{replica}')
PARTITION BY toYYYYMMDD(created_at)
ORDER BY (service_name, timestamp)
TTL toDate(created_at) + toIntervalDay(7)
SETTINGS replicated_deduplication_window = 10000, replicated_deduplication_window_seconds = 604800;

CREATE TABLE netra_analytics.system_health_metrics ON CLUSTER main AS netra_analytics.system_health_metrics_local ENGINE = Distributed('main', 'netra_analytics', 'system_health_metrics_local', cityHash64(service_name));

ALTER TABLE netra_analytics.system_health_metrics_local ON CLUSTER main ADD INDEX ix_timestamp timestamp TYPE minmax GRANULARITY 1;

CREATE TABLE netra_analytics.user_metrics_summary_local ON CLUSTER main (
user_id String CODEC(ZSTD(1)),
day Date,
metric_type LowCardinality(String),
metric_count SimpleAggregateFunction(sum, UInt64),
avg_value AggregateFunction(avg, Float64),
max_value SimpleAggregateFunction(max, Float64),
min_value SimpleAggregateFunction(min, Float64),
total_tokens SimpleAggregateFunction(sum, UInt64),
created_on Date
) ENGINE = ReplicatedAggregatingMergeTree('/clickhouse/tables/{shard}/netra_analytics/user_metrics_summary_local', '{replica}')
ORDER BY (user_id, day, metric_type, created_on)
TTL created_on + toIntervalDay(30)
SETTINGS replicated_deduplication_window = 10000, replicated_deduplication_window_seconds = 604800;

CREATE TABLE netra_analytics.user_metrics_summary ON CLUSTER main AS netra_analytics.user_metrics_summary_local ENGINE = Distributed('main', 'netra_analytics', 'user_metrics_summary_local', cityHash64(user_id));

CREATE MATERIALIZED VIEW netra_analytics.mv_user_metrics_summary ON CLUSTER main TO netra_analytics.user_metrics_summary_local AS
SELECT netra_analytics.performance_metrics_local.user_id AS user_id, toDate(netra_analytics.performance_metrics_local.timestamp) AS day, netra_analytics.performance_metrics_local.metric_type AS metric_type, toDate(netra_analytics.performance_metrics_local.created_at) AS created_on, count(*) AS metric_count, avgState(netra_analytics.performance_metrics_local.value) AS avg_value, max(netra_analytics.performance_metrics_local.value) AS max_value, min(netra_analytics.performance_metrics_local.value) AS min_value, sum(netra_analytics.performance_metrics_local.total_tokens) AS total_tokens
FROM netra_analytics.performance_metrics_local GROUP BY netra_analytics.performance_metrics_local.user_id, toDate(netra_analytics.performance_metrics_local.timestamp), netra_analytics.performance_metrics_local.metric_type, toDate(netra_analytics.performance_metrics_local.created_at);

INSERT INTO netra_analytics.alembic_version_log (version_num, is_head, change) SELECT pair.1, pair.2, (SELECT max(change) + 1 FROM netra_analytics.alembic_version_log) FROM (SELECT arrayJoin([('0001', 1)]) AS pair);
