# Completion of tchat for bash, made by: tchat completion bash
_tchat() {
    local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]}
    local command="" at
    for ((at = 1; at < COMP_CWORD; at++)); do
        case "$command ${COMP_WORDS[at]}" in
            " demo"|" serve"|" join"|" say"|" tail"|" ask"|" export"|" send"|" get"|" irc"|" admin"|" admin release-name"|" completion") command="$command ${COMP_WORDS[at]}" ;;
        esac
    done
    COMPREPLY=()
    case "$command $before" in
        " demo --user") :; return ;;
        " serve --data") compopt -o filenames; COMPREPLY=($(compgen -f -- "$word")); return ;;
        " serve --log-format") COMPREPLY=($(compgen -W "text json" -- "$word")); return ;;
        " serve --cert") compopt -o filenames; COMPREPLY=($(compgen -f -- "$word")); return ;;
        " serve --key") compopt -o filenames; COMPREPLY=($(compgen -f -- "$word")); return ;;
        " serve --rate-limit") :; return ;;
        " serve --join-limit") :; return ;;
        " serve --max-groups") :; return ;;
        " serve --max-members") :; return ;;
        " serve --max-requests") :; return ;;
        " serve --max-invites") :; return ;;
        " serve --max-file") :; return ;;
        " serve --max-files") :; return ;;
        " serve --keep-files") :; return ;;
        " serve --handshake-time") :; return ;;
        " serve --max-connections") :; return ;;
        " serve --max-devices") :; return ;;
        " serve --max-strangers") :; return ;;
        " serve --max-strangers-each") :; return ;;
        " join --pin") :; return ;;
        " join --invite") :; return ;;
        " join --link") :; return ;;
        " join --user") :; return ;;
        " join --group") :; return ;;
        " join --downloads") compopt -o filenames; COMPREPLY=($(compgen -f -- "$word")); return ;;
        " join --history") :; return ;;
        " say --group") :; return ;;
        " say --user") :; return ;;
        " say --pin") :; return ;;
        " say --invite") :; return ;;
        " say --link") :; return ;;
        " say --reply") :; return ;;
        " say --key") :; return ;;
        " tail --group") :; return ;;
        " tail --user") :; return ;;
        " tail --pin") :; return ;;
        " tail --invite") :; return ;;
        " tail --link") :; return ;;
        " tail -n") :; return ;;
        " tail --since") :; return ;;
        " tail --wait") :; return ;;
        " ask --group") :; return ;;
        " ask --user") :; return ;;
        " ask --pin") :; return ;;
        " ask --invite") :; return ;;
        " ask --link") :; return ;;
        " ask --options") :; return ;;
        " ask --timeout") :; return ;;
        " ask --from") :; return ;;
        " ask --key") :; return ;;
        " export --group") :; return ;;
        " export --user") :; return ;;
        " export --pin") :; return ;;
        " export --invite") :; return ;;
        " export --link") :; return ;;
        " export --format") COMPREPLY=($(compgen -W "markdown jsonl" -- "$word")); return ;;
        " export --since") :; return ;;
        " send --group") :; return ;;
        " send --user") :; return ;;
        " send --pin") :; return ;;
        " send --invite") :; return ;;
        " send --link") :; return ;;
        " send --name") :; return ;;
        " get --group") :; return ;;
        " get --user") :; return ;;
        " get --pin") :; return ;;
        " get --invite") :; return ;;
        " get --link") :; return ;;
        " get --to") compopt -o filenames; COMPREPLY=($(compgen -f -- "$word")); return ;;
        " irc --user") :; return ;;
        " irc --listen") :; return ;;
        " irc --pin") :; return ;;
        " admin release-name --data") compopt -o filenames; COMPREPLY=($(compgen -f -- "$word")); return ;;
    esac
    case "$command" in
        "")
            COMPREPLY+=($(compgen -W "demo serve join say tail ask export send get irc admin completion -h --help --version" -- "$word")) ;;
        " demo")
            COMPREPLY+=($(compgen -W "-h --help --user --plain" -- "$word")) ;;
        " serve")
            COMPREPLY+=($(compgen -W "-h --help --data --log-format --cert --key --no-tls --insecure --rate-limit --join-limit --max-groups --max-members --max-requests --max-invites --max-file --max-files --keep-files --handshake-time --max-connections --max-devices --max-strangers --max-strangers-each" -- "$word")) ;;
        " join")
            COMPREPLY+=($(compgen -W "-h --help --pin --invite --link --no-tls --insecure --user --group --plain --downloads --json --history --commands --create --yes" -- "$word")) ;;
        " say")
            COMPREPLY+=($(compgen -W "-h --help --group --user --pin --invite --link --no-tls --insecure --code --lines --tee --reply --key" -- "$word")) ;;
        " tail")
            COMPREPLY+=($(compgen -W "-h --help --group --user --pin --invite --link --no-tls --insecure -n -f --follow --since --wait --json --events --seen" -- "$word")) ;;
        " ask")
            COMPREPLY+=($(compgen -W "-h --help --group --user --pin --invite --link --no-tls --insecure --options --timeout --from --key" -- "$word")) ;;
        " export")
            COMPREPLY+=($(compgen -W "-h --help --group --user --pin --invite --link --no-tls --insecure --format --since" -- "$word")) ;;
        " send")
            compopt -o filenames
            [[ $word == -* ]] || COMPREPLY=($(compgen -f -- "$word"))
            COMPREPLY+=($(compgen -W "-h --help --group --user --pin --invite --link --no-tls --insecure --name" -- "$word")) ;;
        " get")
            COMPREPLY+=($(compgen -W "-h --help --group --user --pin --invite --link --no-tls --insecure --to" -- "$word")) ;;
        " irc")
            COMPREPLY+=($(compgen -W "-h --help --user --listen --pin --no-tls" -- "$word")) ;;
        " admin")
            COMPREPLY+=($(compgen -W "release-name -h --help" -- "$word")) ;;
        " admin release-name")
            COMPREPLY+=($(compgen -W "-h --help --data" -- "$word")) ;;
        " completion")
            COMPREPLY+=($(compgen -W "-h --help bash zsh fish" -- "$word")) ;;
    esac
}
complete -F _tchat tchat
