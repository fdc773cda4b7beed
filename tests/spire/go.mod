// Names the version of SPIRE that scripts/spire builds.
module rootbridge.invalid/tests/spire

go 1.26.0

require github.com/spiffe/spire v1.13.3
