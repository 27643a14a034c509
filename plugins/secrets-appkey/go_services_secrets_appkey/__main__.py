"""``python -m go_services_secrets_appkey`` prints a new key."""

from .key import generate_key

if __name__ == "__main__":
    print(generate_key().reveal())
