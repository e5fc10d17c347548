# Completion of tchat for bash, made by: tchat completion bash
_tchat() {
    local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]}
    local command="" at
    for ((at = 1; at < COMP_CWORD; at++)); do
        case "$command ${COMP_WORDS[at]}" in
            " demo"|" serve"|" join"|" say"|" tail"|" ask"|" export"|" send"|" get"|" irc"|" ping"|" admin"|" admin set-aside"|" admin stats"|" admin groups"|" admin people"|" admin show"|" admin export"|" admin backup"|" admin verify"|" admin restore"|" admin salvage"|" admin ban"|" admin unban"|" admin bans"|" admin erase"|" admin remove-group"|" admin set-admin"|" admin link"|" admin rotate-key"|" admin trust-clock"|" completion") command="$command ${COMP_WORDS[at]}" ;;
        esac
    done
    COMPREPLY=()
    case "$command $before" in
        " demo --user") :; return ;;
        " serve --config") compopt -o filenames; COMPREPLY=($(compgen -f -- "$word")); return ;;
        " serve --data") compopt -o filenames; COMPREPLY=($(compgen -f -- "$word")); return ;;
        " serve --log-format") COMPREPLY=($(compgen -W "text json journal" -- "$word")); return ;;
        " serve --log-level") COMPREPLY=($(compgen -W "error warning notice info" -- "$word")); return ;;
        " serve --cert") compopt -o filenames; COMPREPLY=($(compgen -f -- "$word")); return ;;
        " serve --key") compopt -o filenames; COMPREPLY=($(compgen -f -- "$word")); return ;;
        " serve --proxy-protocol") :; return ;;
        " serve --metrics") :; return ;;
        " serve --rate-limit") :; return ;;
        " serve --text-limit") :; return ;;
        " serve --join-limit") :; return ;;
        " serve --max-groups") :; return ;;
        " serve --max-members") :; return ;;
        " serve --max-requests") :; return ;;
        " serve --max-invites") :; return ;;
        " serve --max-file") :; return ;;
        " serve --max-files") :; return ;;
        " serve --max-group-files") :; return ;;
        " serve --max-files-total") :; return ;;
        " serve --disk-reserve") :; return ;;
        " serve --max-transfers") :; return ;;
        " serve --min-transfer-rate") :; return ;;
        " serve --keep-files") :; return ;;
        " serve --keep-messages") :; return ;;
        " serve --handshake-time") :; return ;;
        " serve --max-connections") :; return ;;
        " serve --network-share") :; return ;;
        " serve --name-limit") :; return ;;
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
        " say --patience") :; return ;;
        " say --reply") :; return ;;
        " say --key") :; return ;;
        " tail --group") :; return ;;
        " tail --user") :; return ;;
        " tail --pin") :; return ;;
        " tail --invite") :; return ;;
        " tail --link") :; return ;;
        " tail --patience") :; return ;;
        " tail -n") :; return ;;
        " tail --since") :; return ;;
        " tail --wait") :; return ;;
        " ask --group") :; return ;;
        " ask --user") :; return ;;
        " ask --pin") :; return ;;
        " ask --invite") :; return ;;
        " ask --link") :; return ;;
        " ask --patience") :; return ;;
        " ask --options") :; return ;;
        " ask --timeout") :; return ;;
        " ask --from") :; return ;;
        " ask --key") :; return ;;
        " export --group") :; return ;;
        " export --user") :; return ;;
        " export --pin") :; return ;;
        " export --invite") :; return ;;
        " export --link") :; return ;;
        " export --patience") :; return ;;
        " export --format") COMPREPLY=($(compgen -W "markdown jsonl" -- "$word")); return ;;
        " export --since") :; return ;;
        " send --group") :; return ;;
        " send --user") :; return ;;
        " send --pin") :; return ;;
        " send --invite") :; return ;;
        " send --link") :; return ;;
        " send --patience") :; return ;;
        " send --name") :; return ;;
        " send --max-input") :; return ;;
        " get --group") :; return ;;
        " get --user") :; return ;;
        " get --pin") :; return ;;
        " get --invite") :; return ;;
        " get --link") :; return ;;
        " get --patience") :; return ;;
        " get --to") compopt -o filenames; COMPREPLY=($(compgen -f -- "$word")); return ;;
        " irc --user") :; return ;;
        " irc --listen") :; return ;;
        " irc --pin") :; return ;;
        " ping --timeout") :; return ;;
        " ping --pin") :; return ;;
        " admin set-aside --data") compopt -o filenames; COMPREPLY=($(compgen -f -- "$word")); return ;;
        " admin stats --data") compopt -o filenames; COMPREPLY=($(compgen -f -- "$word")); return ;;
        " admin groups --data") compopt -o filenames; COMPREPLY=($(compgen -f -- "$word")); return ;;
        " admin people --data") compopt -o filenames; COMPREPLY=($(compgen -f -- "$word")); return ;;
        " admin show --data") compopt -o filenames; COMPREPLY=($(compgen -f -- "$word")); return ;;
        " admin export --data") compopt -o filenames; COMPREPLY=($(compgen -f -- "$word")); return ;;
        " admin backup --data") compopt -o filenames; COMPREPLY=($(compgen -f -- "$word")); return ;;
        " admin verify --data") compopt -o filenames; COMPREPLY=($(compgen -f -- "$word")); return ;;
        " admin restore --data") compopt -o filenames; COMPREPLY=($(compgen -f -- "$word")); return ;;
        " admin salvage --data") compopt -o filenames; COMPREPLY=($(compgen -f -- "$word")); return ;;
        " admin ban --name") :; return ;;
        " admin ban --key") :; return ;;
        " admin ban --address") :; return ;;
        " admin ban --reason") :; return ;;
        " admin ban --data") compopt -o filenames; COMPREPLY=($(compgen -f -- "$word")); return ;;
        " admin unban --name") :; return ;;
        " admin unban --key") :; return ;;
        " admin unban --address") :; return ;;
        " admin unban --data") compopt -o filenames; COMPREPLY=($(compgen -f -- "$word")); return ;;
        " admin bans --data") compopt -o filenames; COMPREPLY=($(compgen -f -- "$word")); return ;;
        " admin erase --data") compopt -o filenames; COMPREPLY=($(compgen -f -- "$word")); return ;;
        " admin remove-group --data") compopt -o filenames; COMPREPLY=($(compgen -f -- "$word")); return ;;
        " admin set-admin --data") compopt -o filenames; COMPREPLY=($(compgen -f -- "$word")); return ;;
        " admin link --data") compopt -o filenames; COMPREPLY=($(compgen -f -- "$word")); return ;;
        " admin rotate-key --data") compopt -o filenames; COMPREPLY=($(compgen -f -- "$word")); return ;;
        " admin trust-clock --data") compopt -o filenames; COMPREPLY=($(compgen -f -- "$word")); return ;;
    esac
    case "$command" in
        "")
            COMPREPLY+=($(compgen -W "demo serve join say tail ask export send get irc ping admin completion -h --help --version" -- "$word")) ;;
        " demo")
            COMPREPLY+=($(compgen -W "-h --help --user --plain" -- "$word")) ;;
        " serve")
            COMPREPLY+=($(compgen -W "-h --help --config --data --log-format --log-level --cert --key --no-tls --tls --insecure --no-insecure --proxy-protocol --metrics --rate-limit --text-limit --join-limit --max-groups --max-members --max-requests --max-invites --max-file --max-files --max-group-files --max-files-total --disk-reserve --max-transfers --min-transfer-rate --keep-files --keep-messages --handshake-time --max-connections --network-share --name-limit --max-devices --max-strangers --max-strangers-each" -- "$word")) ;;
        " join")
            COMPREPLY+=($(compgen -W "-h --help --pin --no-tls --invite --link --insecure --user --group --plain --downloads --json --history --commands --create --yes" -- "$word")) ;;
        " say")
            COMPREPLY+=($(compgen -W "-h --help --group --user --pin --no-tls --invite --link --insecure --patience --code --lines --tee --reply --key" -- "$word")) ;;
        " tail")
            COMPREPLY+=($(compgen -W "-h --help --group --user --pin --no-tls --invite --link --insecure --patience -n -f --follow --since --wait --json --events --seen" -- "$word")) ;;
        " ask")
            COMPREPLY+=($(compgen -W "-h --help --group --user --pin --no-tls --invite --link --insecure --patience --options --timeout --from --key" -- "$word")) ;;
        " export")
            COMPREPLY+=($(compgen -W "-h --help --group --user --pin --no-tls --invite --link --insecure --patience --format --since" -- "$word")) ;;
        " send")
            compopt -o filenames
            [[ $word == -* ]] || COMPREPLY=($(compgen -f -- "$word"))
            COMPREPLY+=($(compgen -W "-h --help --group --user --pin --no-tls --invite --link --insecure --patience --name --max-input" -- "$word")) ;;
        " get")
            COMPREPLY+=($(compgen -W "-h --help --group --user --pin --no-tls --invite --link --insecure --patience --to" -- "$word")) ;;
        " irc")
            COMPREPLY+=($(compgen -W "-h --help --user --listen --pin --no-tls" -- "$word")) ;;
        " ping")
            COMPREPLY+=($(compgen -W "-h --help --timeout --pin --no-tls --proxy-protocol" -- "$word")) ;;
        " admin")
            COMPREPLY+=($(compgen -W "set-aside stats groups people show export backup verify restore salvage ban unban bans erase remove-group set-admin link rotate-key trust-clock -h --help" -- "$word")) ;;
        " admin set-aside")
            COMPREPLY+=($(compgen -W "-h --help --data --json" -- "$word")) ;;
        " admin stats")
            COMPREPLY+=($(compgen -W "-h --help --data --json" -- "$word")) ;;
        " admin groups")
            COMPREPLY+=($(compgen -W "-h --help --data --json" -- "$word")) ;;
        " admin people")
            COMPREPLY+=($(compgen -W "-h --help --data --json" -- "$word")) ;;
        " admin show")
            COMPREPLY+=($(compgen -W "-h --help --data --json" -- "$word")) ;;
        " admin export")
            COMPREPLY+=($(compgen -W "-h --help --data --json" -- "$word")) ;;
        " admin backup")
            COMPREPLY+=($(compgen -W "-h --help --data --json" -- "$word")) ;;
        " admin verify")
            COMPREPLY+=($(compgen -W "-h --help --data --json" -- "$word")) ;;
        " admin restore")
            COMPREPLY+=($(compgen -W "-h --help --data --json" -- "$word")) ;;
        " admin salvage")
            COMPREPLY+=($(compgen -W "-h --help --data --json" -- "$word")) ;;
        " admin ban")
            COMPREPLY+=($(compgen -W "-h --help --name --key --address --reason --data --json" -- "$word")) ;;
        " admin unban")
            COMPREPLY+=($(compgen -W "-h --help --name --key --address --data --json" -- "$word")) ;;
        " admin bans")
            COMPREPLY+=($(compgen -W "-h --help --data --json" -- "$word")) ;;
        " admin erase")
            COMPREPLY+=($(compgen -W "-h --help --data --json" -- "$word")) ;;
        " admin remove-group")
            COMPREPLY+=($(compgen -W "-h --help --data --json" -- "$word")) ;;
        " admin set-admin")
            COMPREPLY+=($(compgen -W "-h --help --data --json" -- "$word")) ;;
        " admin link")
            COMPREPLY+=($(compgen -W "-h --help --keep-keys --data --json" -- "$word")) ;;
        " admin rotate-key")
            COMPREPLY+=($(compgen -W "-h --help --data --json" -- "$word")) ;;
        " admin trust-clock")
            COMPREPLY+=($(compgen -W "-h --help --data --json" -- "$word")) ;;
        " completion")
            COMPREPLY+=($(compgen -W "-h --help bash zsh fish" -- "$word")) ;;
    esac
}
complete -F _tchat tchat
