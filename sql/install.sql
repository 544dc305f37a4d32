-- Installs, or re-installs, schema outbox. Safe to run again: tables stay, functions are replaced.
--   psql --single-transaction --set ON_ERROR_STOP=1 --file sql/install.sql
-- `outbox-worker schema install` runs the same files in the same order, in one transaction.
-- A lock that is not to be had within two seconds ends the installation instead of making the users of the database wait.
set local lock_timeout = '2s';
\ir install/roles.sql
\ir install/schema.sql
\ir install/destination.sql
\ir install/route.sql
\ir install/event.sql
\ir install/delivery.sql
\ir install/claim.sql
\ir install/attempt.sql
\ir install/duplicate.sql
\ir install/capture_failure.sql
\ir install/lane_of.sql
\ir install/ring_doorbell.sql
\ir install/record_event.sql
\ir install/record_capture_failure.sql
\ir install/backlog.sql
\ir install/schema_version.sql
\ir install/rights.sql
