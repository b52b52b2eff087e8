"""The review page: people choose among a nodule's mattes, or discard it.

And the clinicians' study on the same page.
"""
