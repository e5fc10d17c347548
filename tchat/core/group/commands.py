"""Transition: the commands by their old module."""

from tchat.core.group.feature import Command as Command
from tchat.core.group.features import COMMANDS as COMMANDS
from tchat.core.group.files import RemoveFile as RemoveFile
from tchat.core.group.files import Share as Share
from tchat.core.group.membership import Approve as Approve
from tchat.core.group.membership import Ban as Ban
from tchat.core.group.membership import Deny as Deny
from tchat.core.group.membership import Invite as Invite
from tchat.core.group.membership import Join as Join
from tchat.core.group.membership import Kick as Kick
from tchat.core.group.membership import Leave as Leave
from tchat.core.group.membership import TransferAdmin as TransferAdmin
from tchat.core.group.membership import Unban as Unban
from tchat.core.group.messages import Delete as Delete
from tchat.core.group.messages import Edit as Edit
from tchat.core.group.messages import Post as Post
from tchat.core.group.settings import SetPolicy as SetPolicy
from tchat.core.group.settings import SetTopic as SetTopic
from tchat.core.group.state import Policy as Policy
