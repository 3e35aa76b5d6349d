"""JumpServer's Python SDK (`jumpserver-sdk` on PyPI, `jms_client`), unmodified: at the bastion, and at the gateway."""
import pytest
from jms_client.client import get_client
from jms_client.exceptions import JMSException
from jms_client.v1.models.request.users import (
    CreateUserRequest, DeleteUserRequest, DescribeUserGroupsRequest, DescribeUsersRequest, DetailUserRequest, UpdateUserRequest)

from world import BRANCH, DEFAULT, PASSWORDS, TOKENS, VAULT

USER = {"name": "张三", "username": "zhang.san+1", "email": "zhang@example.com"}


@pytest.fixture(params=["access key", "token"])
def client(request, place):
    auth = {"auth_token": place.token} if request.param == "token" else dict(zip(("access_key", "secret_key"), place.key))
    return get_client(version="v3.10", web_url=place.url, **auth)


def test_the_sdk_makes_reads_changes_and_deletes_a_user(client, upstream):
    made = client.do(CreateUserRequest(**USER), with_model=True)
    assert made.is_success() and made.get_data().name == "张三", made.get_err_msg()
    found = client.do(DescribeUsersRequest(username=USER["username"]), with_model=True)
    assert [user.id for user in found.get_data()] == [made.get_data().id], found.get_err_msg()
    changed = client.do(UpdateUserRequest(id_=made.get_data().id, **{**USER, "name": "San"}), with_model=True)
    assert changed.is_success() and changed.get_data().name == "San", changed.get_err_msg()
    assert client.do(DetailUserRequest(id_=made.get_data().id), with_model=True).get_data().username == USER["username"]
    assert client.do(DeleteUserRequest(id_=made.get_data().id)).is_success()
    assert not client.do(DetailUserRequest(id_=made.get_data().id)).is_success()
    assert [(seen["method"], seen["verified"], seen["org"]) for seen in upstream.seen()] == [
        (method, True, DEFAULT) for method in ("POST", "GET", "PUT", "GET", "DELETE", "GET")]


def test_the_sdk_lists_groups_by_their_chinese_name(client):
    found = client.do(DescribeUserGroupsRequest(name="审计"), with_model=True)
    assert [group.name for group in found.get_data()] == ["审计"], found.get_err_msg()


def test_the_sdk_chooses_an_organisation(client, upstream):
    client.set_org(BRANCH)
    assert client.do(CreateUserRequest(**USER)).is_success()
    assert [user["username"] for user in client.do(DescribeUsersRequest()).get_data()] == [USER["username"]]
    client.set_org(client.default_org)
    assert client.do(DescribeUsersRequest()).get_data() == []
    assert [seen["org"] for seen in upstream.seen()] == [BRANCH, BRANCH, DEFAULT]


def test_the_sdk_turns_pages_itself_and_is_told_of_no_other_place(client, place, upstream):
    upstream.reset(users=5)
    names = []
    for offset in range(0, 5, 2):
        page = client.do(DescribeUsersRequest(limit=2, offset=offset), with_model=True)
        names += [user.username for user in page.get_data()]
        assert page.total == 5 and (page._next_url or place.url).startswith(place.url)
    assert names == [f"user{n:03}" for n in range(5)]


def test_the_sdk_is_told_by_the_gateway_what_it_may_not(gateway, issued_key, upstream):
    client = get_client(version="v3.10", web_url=gateway.url, access_key=issued_key[0], secret_key=issued_key[1])
    upstream.reset()
    for org in (VAULT, client.root_org):
        client.set_org(org)
        refused = client.do(DescribeUsersRequest())
        assert (refused.is_request_ok(), refused.get_err_msg()["code"]) == (False, "org_override"), refused.get_err_msg()
    reader = get_client(version="v3.10", web_url=gateway.url, auth_token=f"Bearer {TOKENS['reader']}")
    assert reader.do(DescribeUsersRequest()).is_success()
    assert reader.do(CreateUserRequest(**USER)).get_err_msg()["code"] == "denied"
    assert len(upstream.seen()) == 1


def test_the_sdk_with_a_password_learns_at_once_that_it_needs_a_key(gateway, upstream):
    """The gateway neither accepts nor forwards a password of the bastion."""
    client = get_client(version="v3.10", web_url=gateway.url, username="robot", password=PASSWORDS["robot"])
    with pytest.raises(JMSException) as refused:
        client.do(DescribeUsersRequest())
    assert "unauthenticated" in str(refused.value)
    assert upstream.seen() == [] and PASSWORDS["robot"] not in gateway.log.read_text()
