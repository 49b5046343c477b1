"""robyn, a server in Rust with a framework of its own."""

from _peer import BODY, HOST, PATH, free_port, need, port_argument, say_build, say_port


def main() -> None:
    """Serve until SIGTERM."""
    robyn = need("robyn")
    port = free_port(port_argument())
    config = need("robyn.argument_parser").Config()
    config.log_level = "WARN"  # production mode, as robyn says
    app = robyn.Robyn(__file__, config)

    @app.get(PATH)  # type: ignore[untyped-decorator]
    def hello() -> str:
        return BODY

    say_build(robyn)
    say_port(port)
    app.start(host=HOST, port=port, _check_port=False)


if __name__ == "__main__":
    main()
